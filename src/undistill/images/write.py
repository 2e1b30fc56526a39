"""Encode: pixels become a file, with what the file before said of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zlib import Z_RLE

import numpy as np
from PIL import Image

from undistill.base.errors import UsageError
from undistill.base.files import replacing
from undistill.images.metadata import save_options, with_chunks
from undistill.images.picture import ImageError, Picture, Pixels

if TYPE_CHECKING:
    from torch import Tensor

PNG_OPTIONS = {"compress_type": Z_RLE}
"""Runs and Huffman's code alone: a third of the time of Pillow's default for portraits, and some 3% more bytes
(docs/performance.md)."""

FormatName = Literal["same", "png", "jpeg", "webp", "avif"]
"""What may be asked for; "same": a picture's own."""
_ALWAYS_LOSE = ("JPEG", "AVIF")
QUALITY = {"JPEG": 95, "WEBP": 95, "AVIF": 90}
"""Of the formats that lose something."""


@dataclass(frozen=True)
class Encoding:
    """How a file is written.

    Args:
        format: Pillow's name of it; None: the picture's own.
        quality: 1 to 100, of JPEG, WebP and AVIF; None: `QUALITY`.
        lossless: a WebP without loss; else it is one where the file before was and no quality is given.
        colour: a greyscale picture becomes RGB, with the colour that a head has given it.
    """

    format: str | None = None
    quality: int | None = None
    lossless: bool = False
    colour: bool = False


def asked_encoding(
    format: FormatName = "same", quality: int | None = None, lossless: bool = False, colour: bool = False
) -> Encoding:
    """How files are to be written, as a user asks for it.

    Raises:
        UsageError: options that don't go together.
    """
    named = None if format == "same" else format.upper()
    if quality is not None and lossless:
        raise UsageError("give either quality or lossless")
    if quality is not None and named == "PNG":
        raise UsageError("quality goes with formats that lose something, and PNG doesn't: leave it out")
    if lossless and named in _ALWAYS_LOSE:
        raise UsageError(f"an image {_no_lossless(named)}")
    return Encoding(named, quality, lossless, colour)


def _no_lossless(format: str) -> str:
    return f"can't be written as {format} without loss: take the format png or webp"


def to_image(picture: Picture, pixels: Pixels, grey: bool = False) -> Image.Image:
    """A PIL image with other pixels, (H, W, 3) uint8, and with the picture's transparency and metadata.

    Its `info` has them as that of an image that Pillow has opened: EXIF (`getexif`), XMP and PNG text by their names.

    Args:
        grey: of their light alone.
    """
    image = Image.fromarray(pixels)
    if grey:
        image = image.convert("L")
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    image.info = picture.metadata.info
    return image


def check_encoding(picture: Picture, how: Encoding) -> None:
    """Raises:
    ImageError: the format can't hold it; sooner than after a head has worked on it.
    """
    format = how.format or picture.format
    if how.lossless and format in _ALWAYS_LOSE:
        raise ImageError(_no_lossless(format))
    if format == "JPEG" and picture.alpha is not None and picture.alpha.min() < 255:
        raise ImageError("has transparency, which JPEG can't hold: take the format png, webp or avif")


def encode(picture: Picture, pixels: Pixels, how: Encoding | None = None) -> bytes:
    """A file like the picture's own with other pixels, (H, W, 3) uint8: same format, metadata and transparency.

    JPEG without chroma subsampling; PNG and TIFF without loss; greyscale stays greyscale.

    Args:
        how: where it is to be otherwise.

    Raises:
        ImageError: see `check_encoding`.
    """
    how = how or Encoding()
    format = how.format or picture.format
    check_encoding(picture, how)
    quality = how.quality or QUALITY.get(format)
    options: dict[str, Mapping[str, Any]] = {
        "PNG": PNG_OPTIONS,
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"lossless": True, "exact": True}
        if how.lossless or (picture.lossless and how.quality is None)
        else {"quality": quality},
        "AVIF": {"quality": quality},
        # libtiff, which compresses, can't write the directories of EXIF data.
        "TIFF": {} if picture.metadata.exif else {"compression": "tiff_deflate"},
    }
    image = to_image(picture, pixels, grey=picture.grey and not how.colour)
    if format == "JPEG" and picture.alpha is not None:  # opaque everywhere
        image = image.convert("L" if image.mode == "LA" else "RGB")
    image.info = {}  # Pillow would write some of it by itself
    said = picture.metadata
    if image.mode in ("L", "LA"):
        said = replace(said, icc=b"")  # sRGB's is for colours
    buffer = BytesIO()
    image.save(buffer, format, **options.get(format, {}), **save_options(said, format))
    return with_chunks(buffer.getvalue(), said.chunks) if format == "PNG" else buffer.getvalue()


def png(pixels: Pixels) -> bytes:
    """A PNG of (H, W, 3) uint8 with nothing beside its pixels."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **PNG_OPTIONS)
    return buffer.getvalue()


def to_tensor(pixels: Pixels) -> "Tensor":
    """(..., 3, H, W) in [-1, 1] of (..., H, W, 3) uint8."""
    import torch  # takes seconds, and who shows pictures needs none

    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).movedim(-1, -3).float() / 127.5 - 1


def write_grid(rows: Sequence["Tensor"], path: Path) -> None:
    """A PNG whose rows are batches (N, 3, H, W) in [-1, 1] of one size."""
    import torch

    grid = torch.cat([torch.cat(list(row.float().clamp(-1, 1)), dim=2) for row in rows], dim=1)
    pixels = ((grid + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    with replacing(path) as beside:
        Image.fromarray(pixels).save(beside, "PNG")
