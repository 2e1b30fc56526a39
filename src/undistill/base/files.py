"""Folders on this machine, and in object stores by fsspec's addresses: s3://bucket/x, gs://bucket/x, hf://datasets/me/x.

A place in a store is a `UPath`, which has `Path`'s ways. Files go there whole or not at all by `replacing`.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Union

from safetensors import SafetensorError

from undistill.base.errors import Failure, UsageError, first_line

if TYPE_CHECKING:
    from upath import UPath

AnyPath = Union[Path, "UPath"]

WEIGHTS = Path(str(files("undistill"))) / "weights"
"""What is shipped: heads, the networks of `tiny`, and those of losses."""
SAMPLES = WEIGHTS.parent / "samples"
"""Portraits by FLUX.1-schnell."""


def weights_file(name: str) -> Path:
    """A file of weights that is not shipped, in the folder that the environment variable UNDISTILL_WEIGHTS names.

    Raises:
        Failure: it isn't there.
    """
    folder = os.environ.get("UNDISTILL_WEIGHTS")
    if folder is None or not (Path(folder) / name).is_file():
        where = "UNDISTILL_WEIGHTS is not set" if folder is None else f"{folder} has none"
        raise Failure(f"{name} is not shipped: set UNDISTILL_WEIGHTS to a folder that holds it ({where})")
    return Path(folder) / name


def parse_path(text: str) -> AnyPath:
    """The place that a command was given.

    Raises:
        UsageError: what reaches this kind of store is not installed, or it can't be reached.
    """
    if "://" not in text:
        return Path(text)
    try:
        from upath import UPath
    except ImportError:
        raise UsageError(f"{text}: object stores need pip install 'undistill[cloud]'") from None
    try:
        place = UPath(text, use_listings_cache=False)  # others write there, too
        place.exists()
    except ImportError as error:  # fsspec's, whose cause says what is missing
        package = getattr(error.__cause__ or error, "name", None) or first_line(error)
        raise UsageError(f"{text} needs another package: pip install {package}") from error
    except Exception as error:  # every store's library has its own
        raise UsageError(f"{text} can't be reached: {first_line(error)}") from error
    return place


@contextmanager
def fetched(path: AnyPath) -> Iterator[Path]:
    """A file as one on this machine: itself, or a copy for the time being."""
    if isinstance(path, Path):
        yield path
        return
    with TemporaryDirectory(prefix="undistill-") as folder:
        copy = Path(folder) / path.name
        path.fs.get_file(path.path, str(copy))
        yield copy


PART = ".part"
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What the system answers to who writes."""


@contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """Yields a path beside `path` to write to; the file takes `path`'s place at the end, or goes on an error.

    The path beside has a fixed name, so that what a killed process left there is written over by the next. For a place
    in an object store it is a temporary file of this machine, which is uploaded: stores show an object when all of it
    has come.

    Raises:
        Failure: the upload failed.
        OSError: a full disk and the like; with the path, whichever library wrote.
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
    beside = path.with_name(_beside(path.name))
    try:
        yield beside
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and error.errno in REFUSED:
            error.filename = str(path)
        # The system's errors come from safetensors in words alone.
        refused = re.search(r"\(os error (\d+)\)", str(error)) if isinstance(error, SafetensorError) else None
        if refused and int(refused[1]) in REFUSED:
            raise OSError(int(refused[1]), os.strerror(int(refused[1])), str(path)) from error
        raise


def _beside(name: str) -> str:
    beside = f".{name}{PART}"
    # The longest name that file systems take, in bytes.
    return beside if len(os.fsencode(beside)) <= 255 else f".{sha256(os.fsencode(name)).hexdigest()}{PART}"


def whole_lines(path: Path) -> int:
    """Bytes of a file of lines up to the end of the last whole one: what a kill left half written lies behind."""
    return path.read_bytes().rfind(b"\n") + 1
