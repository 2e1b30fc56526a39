"""Files that are there whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from undistill.base.errors import Failure, first_line
from undistill.base.places import Place

PART = ".part"


@contextmanager
def replacing(path: Place) -> Iterator[Path]:
    """Yields a path beside `path` to write to; the file takes `path`'s place at the end, or goes on an error.

    The path beside has a fixed name, so that what a killed process left there is written over by the next. For a place
    in an object store it is a temporary file of this machine, which is uploaded: stores show an object when all of it
    has come.

    Raises:
        Failure: the upload failed.
    """
    if not isinstance(path, Path):
        with TemporaryDirectory(prefix="undistill-") as folder:
            beside = Path(folder) / path.name
            yield beside
            try:
                path.fs.put_file(str(beside), path.path)
            except Exception as error:  # every store's library has its own
                reason = first_line(error)
                raise Failure(f"can't write {path}: {reason}; with that put right, the same command goes on") from error
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}{PART}")
    try:
        yield beside
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
