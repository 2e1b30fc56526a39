"""An image between two files: its pixels, and what the new file needs to be like the old one."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import features

from undistill.base.errors import Failure
from undistill.images.metadata import Metadata

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
    | ({".avif"} if features.check("avif") else set())
)
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "GIF")
READ_ONLY = ("BMP", "GIF")
"""What is made from these is a PNG."""

Pixels = NDArray[np.uint8]


class ImageError(Failure):
    """An image that can't be used."""


class NoImage(ImageError):
    """It is in none of the `FORMATS`."""


class TooLarge(ImageError):
    """It has more pixels than can be read."""


@dataclass
class Picture:
    """A decoded image.

    Args:
        pixels: (H, W, 3) uint8, sRGB, upright.
        alpha: (H, W) uint8, or None.
        format: Pillow's name of the format of the file that is made from it.
        metadata: what the file said beside its pixels.
        notes: what was changed on the way in, in words.
        grey: it was greyscale.
        lossless: it is a WebP that was written without loss.
    """

    pixels: Pixels
    alpha: Pixels | None
    format: str
    metadata: Metadata = field(default_factory=Metadata)
    notes: list[str] = field(default_factory=list)
    grey: bool = False
    lossless: bool = False
