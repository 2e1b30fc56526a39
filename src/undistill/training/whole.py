"""Which images are whole: each is decoded once, before the first step of the first run that reads it.

What was found whole is remembered (metrics/cache.py), a file of arrays for each folder, by the image's name and by the
size and the times of the file in which it lies. A hash of its bytes would take a pass over all of them before every
run, which is what is to be saved. A file that was replaced by one of its size and age (`cp -p`, `rsync -t`) shows it by
its change time, which nobody can set.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np

from undistill.base.errors import Failure
from undistill.base.progress import progressed
from undistill.base.threads import spread
from undistill.dataset.samples import Sample, pixels_of
from undistill.metrics.cache import key_of, read_arrays, trim, write_arrays

NAMED = 3
"""Broken images that a message names."""

Stamp = tuple[int, int]
"""Hashes of an image's name, and of the size and the times of its file."""

_found: defaultdict[str, dict[int, int]] = defaultdict(dict)
"""By folder, where the cache can't be written: runs of one command (folds, cells) read the same images."""


def find_broken(samples: Iterable[Sample], threads: int | None = None) -> dict[str, str]:
    """Decode the images that aren't known to be whole, with a bar; interrupted, what was found is remembered.

    Args:
        samples: one that is there twice is looked at once.
        threads: None: as many as torch uses.

    Returns: what is wrong with each of those that are broken, by the sample's text; in their order.
    """
    stamps = _stamps(dict.fromkeys(samples))
    known = {folder: _remembered(folder) for folder in {_folder(sample) for sample in stamps}}
    left = [
        sample for sample, stamp in stamps.items() if stamp is None or known[_folder(sample)].get(stamp[0]) != stamp[1]
    ]
    broken: dict[str, str] = {}
    if not left:
        return broken
    new: defaultdict[str, dict[int, int]] = defaultdict(dict)
    try:
        for sample, problem in progressed("checking images", spread(_look, left, threads), len(left)):
            if problem is not None:
                broken[str(sample)] = problem
            elif (stamp := stamps[sample]) is not None:
                new[_folder(sample)][stamp[0]] = stamp[1]
    finally:
        _remember(known, new)
    return broken


def broken_words(broken: dict[str, str], images: int) -> str:
    """How many of so many images are broken, and the first of them, in one line."""
    more = len(broken) - NAMED
    named = "; ".join(list(broken.values())[:NAMED]) + (f"; and {more} more" if more > 0 else "")
    return f"{len(broken)} of {images} images can't be used: {named}"


def refuse_broken(samples: Sequence[Sample], advice: str, threads: int | None = None) -> None:
    """Raises:
    Failure: some are broken; its text ends with the advice.
    """
    if broken := find_broken(samples, threads):
        raise Failure(f"{broken_words(broken, len(set(samples)))}; {advice}")


def _look(sample: Sample) -> tuple[Sample, str | None]:
    try:
        pixels_of(sample)
    except Failure as error:
        return sample, str(error)
    return sample, None


def _folder(sample: Sample) -> str:
    return str(sample.file.parent.absolute())


def _stamps(samples: Iterable[Sample]) -> dict[Sample, Stamp | None]:
    """None for what isn't there."""
    files: dict[Path, bytes | None] = {}
    stamps: dict[Sample, Stamp | None] = {}
    for sample in samples:
        if sample.file not in files:
            files[sample.file] = None
            with suppress(OSError):
                status = sample.file.stat()
                files[sample.file] = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode()
        of_file = files[sample.file]
        name = f"{sample.file.name}/{sample.name}"
        stamps[sample] = None if of_file is None else (_hash(os.fsencode(name)), _hash(of_file))
    return stamps


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest())


def _remembered(folder: str) -> dict[int, int]:
    arrays = read_arrays(key_of("whole 1", folder))
    names, stamps = (arrays.get(name, np.zeros(0, np.uint64)).tolist() for name in ("names", "stamps"))
    return dict(zip(names, stamps, strict=False)) | _found[folder]


def _remember(known: dict[str, dict[int, int]], new: dict[str, dict[int, int]]) -> None:
    for folder, stamps in new.items():
        _found[folder] |= stamps
        both = known[folder] | stamps
        arrays = {"names": np.array(list(both), np.uint64), "stamps": np.array(list(both.values()), np.uint64)}
        write_arrays(key_of("whole 1", folder), arrays)
    if new:
        trim()
