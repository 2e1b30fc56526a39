"""What was seen in images, kept between runs: arrays and files by a key, in a folder that does not grow without end."""

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from time import time as now
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from undistill.base.errors import first_line
from undistill.base.files import replacing

LIMIT = 4 * 2**30
"""Bytes that `trim` leaves."""
_ROWS, _FILES = "rows", "files"
_AT_WORK_S = 3600.0

Arrays = Mapping[str, NDArray[Any]]


def cache_folder() -> Path:
    """`$UNDISTILL_CACHE`, else ~/.cache/undistill."""
    given = os.environ.get("UNDISTILL_CACHE")
    try:
        return Path(given) if given else Path.home() / ".cache" / "undistill"
    except RuntimeError:  # a user without a home
        return Path(gettempdir()) / "undistill"


def key_of(*parts: object) -> str:
    """A name for what depends on the parts, by their texts."""
    return sha256("\n".join(map(str, parts)).encode()).hexdigest()


def read_arrays(key: str) -> dict[str, NDArray[Any]]:
    """What `write_arrays` was given; nothing where that is gone or broken."""
    data = kept(_file(key))
    return {} if data is None else load(data)


def write_arrays(key: str, arrays: Arrays) -> None:
    """Keep arrays, whole or not at all. Where the folder can't be written nothing is kept, which is said once."""
    try:
        keep(_file(key), save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    except OSError as error:
        _say_unwritable(cache_folder(), error)


def keep(file: Path, data: bytes) -> None:
    """Write a file of the cache, whole or not at all, behind a hash of what it holds."""
    with replacing(file) as beside:
        beside.write_bytes(sha256(data).digest() + data)


def kept(file: Path) -> bytes | None:
    """What `keep` was given; None where that is gone, or is not what it was: it is to be made anew."""
    try:
        told = file.read_bytes()
    except OSError:
        return None
    hash, data = told[: sha256().digest_size], told[sha256().digest_size :]
    if sha256(data).digest() != hash:
        return None
    used(file)
    return data


@contextmanager
def room(key: str) -> Iterator[Path]:
    """A folder for files that depend on the key, which stays; a temporary one where the cache can't be written."""
    folder = cache_folder() / _FILES / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        _say_unwritable(cache_folder(), error)
        with TemporaryDirectory(prefix="undistill-") as temporary:
            yield Path(temporary)
        return
    yield folder


def _say_unwritable(folder: Path, error: OSError) -> None:
    reason = error.strerror or first_line(error)
    _say(f"the cache {folder} can't be written ({reason}): nothing is kept for the next time\n")


@cache
def _say(line: str) -> None:
    """On standard error, once a process."""
    sys.stderr.write(line)


def used(file: Path) -> None:
    """Note that a file of the cache was used: the others go first."""
    with suppress(OSError):
        os.utime(file)


def trim(limit: int | None = None) -> None:
    """Delete what was not used for longest, until no more than so many bytes are left; None: `LIMIT`.

    What was used in the last hour stays: another process may be at it. Nor is anything touched that we have not made.
    """
    known = []
    for path in (path for folder in (_ROWS, _FILES) for path in (cache_folder() / folder).rglob("*")):
        with suppress(OSError):  # another process was faster
            status = path.stat()
            if path.is_file():
                known.append((status.st_mtime, status.st_size, path))
    size = sum(size for _, size, _ in known)
    for time, bytes_, path in sorted(known):
        if size <= (LIMIT if limit is None else limit) or time > now() - _AT_WORK_S:
            return
        with suppress(OSError):
            path.unlink()
            size -= bytes_
            if path.parent.name not in (_ROWS, _FILES):
                path.parent.rmdir()  # the last of its folder


def _file(key: str) -> Path:
    return cache_folder() / _ROWS / f"{key}.kept"
