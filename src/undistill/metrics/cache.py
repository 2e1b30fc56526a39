"""What was seen in images, kept between runs: arrays and files by a key, in a folder that does not grow without end."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from undistill.base.files import replacing

LIMIT = 4 * 2**30
"""Bytes that `trim` leaves."""

Arrays = Mapping[str, NDArray[Any]]


def cache_folder() -> Path:
    """`$UNDISTILL_CACHE`, else ~/.cache/undistill."""
    return Path(os.environ.get("UNDISTILL_CACHE") or Path.home() / ".cache" / "undistill")


def key_of(*parts: object) -> str:
    """A name for what depends on the parts, by their texts."""
    return sha256("\n".join(map(str, parts)).encode()).hexdigest()


def read_arrays(key: str) -> dict[str, NDArray[Any]]:
    """What `write_arrays` was given; nothing where that is gone or broken."""
    file = _file(key)
    try:
        arrays: dict[str, NDArray[Any]] = load_file(file)
        os.utime(file)  # the oldest goes first
    except (OSError, SafetensorError):
        return {}
    return arrays


def write_arrays(key: str, arrays: Arrays) -> None:
    """Keep arrays, whole or not at all. Where the folder can't be written nothing is kept, and nothing is lost."""
    try:
        with replacing(_file(key)) as beside:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, beside)
    except (OSError, SafetensorError):
        return


@contextmanager
def room(key: str) -> Iterator[Path]:
    """A folder for files that depend on the key, which stays; a temporary one where the cache can't be written."""
    folder = cache_folder() / "files" / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if writable:
        yield folder
    else:
        with TemporaryDirectory(prefix="undistill-") as temporary:
            yield Path(temporary)


def trim(limit: int | None = None) -> None:
    """Delete what was not used for longest, until no more than so many bytes are left; None: `LIMIT`."""
    known = []
    for path in cache_folder().rglob("*"):
        try:
            status = path.stat()
        except OSError:  # another process was faster
            continue
        if path.is_file():
            known.append((status.st_mtime, status.st_size, path))
    size = sum(size for _, size, _ in known)
    for _, bytes_, path in sorted(known):
        if size <= (LIMIT if limit is None else limit):
            return
        path.unlink(missing_ok=True)
        size -= bytes_


def _file(key: str) -> Path:
    return cache_folder() / "rows" / f"{key}.safetensors"
