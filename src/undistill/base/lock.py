"""One process at a time in a folder that is written to."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from undistill.base.errors import Failure, UsageError
from undistill.base.files import AnyPath


@contextmanager
def locked(folder: AnyPath) -> Iterator[None]:
    """A lock on a folder: a second process, which would write to the same files, is refused.

    The system holds it, and takes it back when the process ends, however it ends: nothing is left in the folder. A
    folder that isn't there is made, and goes again where nothing came into it. Object stores, Windows and some network
    file systems have no such locks: there two processes do the same work twice.

    Raises:
        UsageError: another one is in it, or it is a file.
        Failure: it can't be made.
    """
    if not isinstance(folder, Path):
        yield
        return
    made = not folder.exists()
    if not made and not folder.is_dir():
        raise UsageError(f"{folder} is a file; -o takes a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"can't make {folder}: {error.strerror}") from error
    try:
        with _lock(folder):
            yield
    finally:
        if made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # file systems without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(os.fstat(handle).st_ino)
                raise UsageError(f"another undistill is at work in {folder}{holder}: wait until it ends") from None
        yield
    finally:
        os.close(handle)


def _holder(inode: int) -> str:
    """Which process locks the folder of this inode, and since when it runs: on Linux, and where it may be known."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, *_, process, place, _, _ = line.split()
            if kind == "FLOCK" and int(place.rsplit(":", 1)[1]) == inode and int(process) > 0:
                begun = datetime.fromtimestamp(Path(f"/proc/{process}").stat().st_ctime).astimezone()
                return f" (process {process}, since {begun:%Y-%m-%d %H:%M})"
    return ""
