"""Trivial baselines: filters that anyone could apply. A head that can't beat them has learned nothing.

They are tuned as hard as a head is (tuning.py): on other images than they are measured on, for the very figure that is
reported, with the same extractor, in both directions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from scipy.optimize import minimize_scalar

from undistill.base.threads import spread
from undistill.dataset.samples import Sample, pixels_of
from undistill.images import Pixels

SEARCHES = 12
"""Of strengths, that `search` makes."""
_TRIES = 6
"""In each."""


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and spread of a set's channels, (3,) each, in levels of 255."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]


@dataclass(frozen=True)
class Filter:
    """Colour, then sharpness, then grain. The default changes nothing.

    Args:
        match: how far mean and spread of the channels go from the student's to the teacher's, 0 to 1.
        saturation: 0 is grey, 1 unchanged.
        sharpen: amount of an unsharp mask; negative softens.
        radius: of the mask, standard deviation in px.
        grain: standard deviation of added luminance noise, levels of 255; negative: the share of a 3 x 3 median.
        blur: standard deviation of a Gaussian, px.
    """

    match: float = 0.0
    saturation: float = 1.0
    sharpen: float = 0.0
    radius: float = 1.0
    grain: float = 0.0
    blur: float = 0.0

    def __call__(self, pixels: Pixels, id: str, student: ChannelStatistics, teacher: ChannelStatistics) -> Pixels:
        """(H, W, 3) uint8 to the same; the noise is a function of the id."""
        x = pixels.astype(np.float64)
        if self.match:
            matched = (x - student.mean) * teacher.spread / student.spread + teacher.mean
            x += self.match * (matched - x)
        image = Image.fromarray(_round(x))
        if self.saturation != 1:
            image = ImageEnhance.Color(image).enhance(self.saturation)
        if self.sharpen:
            image = Image.blend(image.filter(ImageFilter.GaussianBlur(self.radius)), image, 1 + self.sharpen)
        if self.grain < 0:
            image = Image.blend(image, image.filter(ImageFilter.MedianFilter(3)), -self.grain)
        if self.blur:
            image = image.filter(ImageFilter.GaussianBlur(self.blur))
        out: Pixels = np.asarray(image)
        if self.grain > 0:
            random = np.random.default_rng(list(sha256(id.encode()).digest()[:16]))
            out = _round(out + self.grain * random.standard_normal((*out.shape[:2], 1)))
        return out


@dataclass(frozen=True)
class Baseline:
    """A filter with the looks that it matches: takes (H, W, 3) uint8 and an id, gives the same shape."""

    filter: Filter
    student: ChannelStatistics
    teacher: ChannelStatistics

    def __call__(self, pixels: Pixels, id: str) -> Pixels:
        return self.filter(pixels, id, self.student, self.teacher)


def channel_statistics(samples: Sequence[Sample]) -> ChannelStatistics:
    """Of all pixels of the images, each image with the same weight."""

    def moments(sample: Sample) -> NDArray[np.float64]:
        x = pixels_of(sample).reshape(-1, 3).astype(np.float64)
        return np.stack([x.mean(0), np.square(x).mean(0)])

    mean, squares = np.mean(list(spread(moments, samples)), 0)
    return ChannelStatistics(mean, np.sqrt(squares - np.square(mean)))


def search(score: Callable[[Filter], float], searched: Callable[[], None]) -> dict[str, Filter]:
    """The best filter of each kind by its name; one that changes nothing where none is better.

    Each strength is searched for by Brent's method in its range. `combined` begins with the best of colour, sharpness
    and grain, and goes through their strengths once more.

    Args:
        score: the less, the better; asked once for each filter.
        searched: called at the end of each of `SEARCHES` searches.
    """
    score = cache(score)

    def along(filter: Filter, part: str, low: float, high: float) -> Filter:
        """With the best strength of one part, or as it is."""

        def changed(strength: float) -> Filter:
            return replace(filter, **{part: round(float(strength), 3)})

        options = {"maxiter": _TRIES, "xatol": (high - low) / 50}
        found = minimize_scalar(lambda x: score(changed(x)), bounds=(low, high), method="bounded", options=options)
        searched()
        return min(filter, changed(found.x), key=score)

    def coloured(filter: Filter) -> Filter:
        return along(along(filter, "match", 0, 1), "saturation", 0.6, 1.4)

    def grained(filter: Filter) -> Filter:
        plain = replace(filter, grain=0.0)
        return min(filter, along(plain, "grain", -1, 0), along(plain, "grain", 0, 6), key=score)

    nothing = Filter()
    sharpened = [along(replace(nothing, radius=radius), "sharpen", -0.6, 1.5) for radius in (1.0, 2.0)]
    sharpen = min(nothing, *sharpened, key=score)
    grain, colour = grained(nothing), coloured(nothing)
    start = min(colour, sharpen, grain, key=score)
    combined = grained(along(coloured(start), "sharpen", -0.6, 1.5))
    blur = along(nothing, "blur", 0, 1.5)
    return {"sharpen": sharpen, "grain": grain, "colour": colour, "combined": combined, "blur": blur}


def _round(x: NDArray[np.float64]) -> Pixels:
    return x.round().clip(0, 255).astype(np.uint8)
