"""One process at a time in a folder, or at a file, that is written to."""

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

    The system holds it, and takes it back when the process ends, however it ends (and those that it has forked):
    nothing is left in the folder. A folder that isn't there is made, and goes again where nothing came into it. Object
    stores, Windows and some network file systems have no such locks: there two processes do the same work twice.

    Raises:
        UsageError: another one is in it, or it is a file.
        Failure: it can't be made.
    """
    if not isinstance(folder, Path):
        yield
        return
    while True:
        made = _make(folder)
        with suppress(FileNotFoundError):  # whoever had made it took it away, since nothing had come into it
            handle = _locked_handle(folder)
            if handle is None or _is_still(folder, handle):
                break
            os.close(handle)
    try:
        yield
    finally:
        if made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()
        if handle is not None:
            os.close(handle)


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """The same of a file that grows in its place; it is made where it isn't there. Others in its folder may be written.

    Raises:
        UsageError: another process is at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.open("ab").close()
    handle = _locked_handle(path)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _make(folder: Path) -> bool:
    """Make the folder; False where it is there."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; -o takes a folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise Failure(f"can't make {folder}: {error.strerror}") from error
    return True


def _locked_handle(place: Path) -> int | None:
    """The open folder or file that bears the lock; None where there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    handle = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(os.fstat(handle))
        os.close(handle)
        raise UsageError(f"another undistill is at work in {place}{holder}: wait until it ends") from None
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle


def _is_still(folder: Path, handle: int) -> bool:
    """Whether the folder that is open is the one that lies there."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), folder.stat())
    return False


def _holder(locked: os.stat_result) -> str:
    """Which process holds the lock, and since when it runs: on Linux, where it may be known."""
    place = f"{os.major(locked.st_dev):02x}:{os.minor(locked.st_dev):02x}:{locked.st_ino}"
    with suppress(OSError, ValueError, StopIteration):
        locks = (line.split() for line in Path("/proc/locks").read_text().splitlines())
        process = next(words[4] for words in locks if words[1] == "FLOCK" and words[5] == place)
        ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]  # since the system started
        started = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
        since = datetime.fromtimestamp(int(started.split()[1]) + int(ticks) / os.sysconf("SC_CLK_TCK")).astimezone()
        return f" (process {process}, since {since:%Y-%m-%d %H:%M:%S})"
    return ""
