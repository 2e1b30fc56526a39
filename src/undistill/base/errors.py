"""What goes wrong by the user's hand or the machine's, each with a text of one line that says what to do."""


class UsageError(Exception):
    """What was asked can't be done as asked: the command line ends with exit code 2."""


class Failure(Exception):
    """What was asked went wrong: the command line ends with exit code 1."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
