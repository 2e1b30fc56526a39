"""What goes wrong by the user's hand or the machine's, each with a text of one line that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UsageError(Exception):
    """What was asked can't be done as asked: the command line ends with exit code 2."""


class Failure(Exception):
    """What was asked went wrong: the command line ends with exit code 1."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """The system's errors of an open file, of a full disk for one, name no file: inside, they name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
