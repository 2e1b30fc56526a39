"""One pass over a set of images: each is read once, and everything that is wanted is taken from it.

What was taken is kept (cache.py), as one file of arrays for each 500 images of a set, by a hash of their bytes: the
same set measured twice costs nothing the second time, and a killed run goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from undistill.base.errors import Failure
from undistill.base.progress import Bar, progress
from undistill.base.threads import spread
from undistill.dataset.samples import Sample, pixels_of
from undistill.images import Pixels
from undistill.metrics.cache import key_of, read_arrays, write_arrays

CHUNK = 500
"""Images a file of arrays."""
BATCH = 8
"""Images at a time, in each thread."""

Features = NDArray[np.float32]


@dataclass(frozen=True)
class EvalImage:
    """An image that is looked at.

    Args:
        pixels: (H, W, 3) uint8.
        twin: those of the student's image that it was made of; None where nothing compares the two.
    """

    pixels: Pixels
    twin: Pixels | None = None


@dataclass(frozen=True)
class Extractor:
    """Takes features from images: (k, D) of each.

    Args:
        name: with the version of what it does; part of the cache's key.
        look: images to their features, in this order. Called by several threads at once. It may raise a `Failure`,
            whose text goes on from the name of an image.
        compares: whether it looks at the twins.
    """

    name: str
    look: Callable[[Sequence[EvalImage]], Sequence[Features]]
    compares: bool = False

    def __call__(self, pixels: Pixels, twin: Pixels | None = None) -> Features:
        """Of one image."""
        return self.look([EvalImage(pixels, twin)])[0]


def one_by_one(look: Callable[[Pixels], Features]) -> Callable[[Sequence[EvalImage]], Sequence[Features]]:
    """What looks at one image after another, from what looks at one."""
    return lambda images: [look(image.pixels) for image in images]


class Hashed(list[Sample]):
    """Images of which each is hashed once, when that is first asked for."""

    @cached_property
    def hashes(self) -> list[str]:
        return _hashes(self)


def extract(
    words: str, samples: Sequence[Sample], extractors: Sequence[Extractor], twins: Sequence[Sample] | None = None
) -> dict[str, list[Features]]:
    """What the extractors take from each of the images, by their names.

    Args:
        words: what the bar calls the images.
        twins: the student's images, in the same order; needed where an extractor compares. `Hashed` where they are
            asked for again.

    Raises:
        ImageError, ShardError: an image can't be read.
        Failure: an extractor's, with the name of the image.
    """
    compared = twins if any(extractor.compares for extractor in extractors) else None
    keys, beside = _keys(samples), _keys(compared or [])
    taken: list[list[Features]] = [[] for _ in extractors]
    with progress(words, len(samples)) as bar:
        for start in range(0, len(samples), CHUNK):
            span = slice(start, start + CHUNK)
            place = start // CHUNK
            part = _Part(samples[span], keys[place], compared and compared[span], beside[place] if compared else "")
            for features, more in zip(taken, part.take(extractors, bar), strict=True):
                features.extend(more)
    return {extractor.name: features for extractor, features in zip(extractors, taken, strict=True)}


def row_key(samples: Sequence[Sample]) -> str:
    """A name for a set of images, by their bytes."""
    return key_of(*_known_hashes(samples))


def _keys(samples: Sequence[Sample]) -> list[str]:
    """`row_key` of each `CHUNK` of them."""
    hashes = _known_hashes(samples)
    return [key_of(*hashes[start : start + CHUNK]) for start in range(0, len(samples), CHUNK)]


def _known_hashes(samples: Sequence[Sample]) -> list[str]:
    return samples.hashes if isinstance(samples, Hashed) else _hashes(samples)


def _hashes(samples: Sequence[Sample]) -> list[str]:
    return list(spread(lambda sample: sha256(sample.read()).hexdigest(), samples))


@dataclass(frozen=True)
class _Part:
    """Up to CHUNK images of a set, whose features share a file."""

    samples: Sequence[Sample]
    key: str
    twins: Sequence[Sample] | None
    beside: str

    def take(self, extractors: Sequence[Extractor], bar: Bar) -> list[list[Features]]:
        """From the cache where it is there; a list for each extractor."""
        names = [f"{each.name} {self.beside}" if each.compares else each.name for each in extractors]
        known = read_arrays(self.key)
        missing = [place for place, name in enumerate(names) if name not in known]
        if missing:
            found = self._look([extractors[place] for place in missing], bar)
            for place, features in zip(missing, found, strict=True):
                known[names[place]] = np.concatenate(features)
                known[_counts(names[place])] = np.array([len(some) for some in features])
            write_arrays(self.key, known)
        else:
            bar.advance(by=len(self.samples))
        return [np.split(known[name], np.cumsum(known[_counts(name)])[:-1]) for name in names]

    def _look(self, extractors: Sequence[Extractor], bar: Bar) -> list[list[Features]]:
        seen: list[list[Features]] = [[] for _ in extractors]
        starts = range(0, len(self.samples), BATCH)
        for batch in spread(partial(self._look_at, extractors), starts):
            for features, more in zip(seen, batch, strict=True):
                features.extend(more)
            bar.advance(by=len(batch[0]))
        return seen

    def _look_at(self, extractors: Sequence[Extractor], start: int) -> list[Sequence[Features]]:
        samples = self.samples[start : start + BATCH]
        twins = self.twins[start : start + BATCH] if self.twins else [None] * len(samples)
        images = [
            EvalImage(pixels_of(sample), pixels_of(twin) if twin else None)
            for sample, twin in zip(samples, twins, strict=True)
        ]
        try:
            return [extractor.look(images) for extractor in extractors]
        except Failure:
            for sample, image in zip(samples, images, strict=True):  # which of them is it?
                try:
                    for extractor in extractors:
                        extractor.look([image])
                except Failure as error:
                    raise Failure(f"{sample} {error}") from error
            raise


def _counts(name: str) -> str:
    return f"{name}, counts"
