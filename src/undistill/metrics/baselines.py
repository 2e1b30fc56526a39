"""Trivial baselines: filters that anyone could apply. A head that can't beat them has learned nothing.

They are tuned as hard as a head is: on other images than they are measured on, for the very figure that is reported,
with the same extractor, in both directions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from undistill.dataset.samples import Sample, pixels_of
from undistill.images import Pixels


@dataclass(frozen=True)
class Look:
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

    def __call__(self, pixels: Pixels, id: str, student: Look, teacher: Look) -> Pixels:
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


BLUR = [Filter(blur=blur) for blur in (0.5, 0.75, 1.0)]
SHARPEN = [Filter(sharpen=amount, radius=radius) for radius in (1.0, 2.0) for amount in (-0.5, -0.2, 0.2, 0.5, 1.0)]
GRAIN = [Filter(grain=grain) for grain in (-1.0, -0.5, 1.5, 3.0, 5.0)]
COLOUR = [
    Filter(match=match, saturation=saturation)
    for match in (0.0, 0.5, 1.0)
    for saturation in (0.85, 1.0, 1.15)
    if (match, saturation) != (0.0, 1.0)
]


def look_of(samples: Sequence[Sample]) -> Look:
    """Of all pixels of the images, each image with the same weight."""
    means, squares = [], []
    for sample in samples:
        x = pixels_of(sample).reshape(-1, 3).astype(np.float64)
        means.append(x.mean(0))
        squares.append(np.square(x).mean(0))
    mean = np.mean(means, 0)
    return Look(mean, np.sqrt(np.mean(squares, 0) - np.square(mean)))


def tune(score: Callable[[Filter], float]) -> Mapping[str, Filter]:
    """The best filter of each kind, by name. `combined` goes through its three parts twice, each time keeping the best.

    Args:
        score: the more, the better; asked once for each filter.
    """
    known: dict[Filter, float] = {}

    def best(filters: Sequence[Filter]) -> Filter:
        for filter in filters:
            if filter not in known:
                known[filter] = score(filter)
        return max(filters, key=known.__getitem__)

    alone = {"sharpen": best(SHARPEN), "grain": best(GRAIN), "colour": best(COLOUR), "blur": best(BLUR)}
    combined = Filter()
    for _ in range(2):
        for kind, parts in (
            (COLOUR, ("match", "saturation")),
            (SHARPEN, ("sharpen", "radius")),
            (GRAIN, ("grain",)),
        ):
            options = [Filter(), *kind]
            changed = [replace(combined, **{part: getattr(option, part) for part in parts}) for option in options]
            combined = best(changed)
    return {**alone, "combined": combined}


def _round(x: NDArray[np.float64]) -> Pixels:
    return x.round().clip(0, 255).astype(np.uint8)
