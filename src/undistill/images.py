"""The one door for pixels: decode, encode, colour, metadata.

Inside undistill an image is RGB, 8 bits, sRGB, upright. What it was before, and what has to go back into the file that
is made from it, travels along in a `Picture`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError, features
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from undistill.atomic import replacing
from undistill.errors import Failure, first_line

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"} | ({".avif"} if features.check("avif") else set())
)
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")

Pixels = NDArray[np.uint8]

# Tags of a TIFF file that tell of the picture; the others tell how the old file's bytes lay.
_TIFF_TAGS = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
    ExifTags.IFD.Exif,
    ExifTags.IFD.GPSInfo,
)


class ImageError(Failure):
    """An image that can't be used."""


@dataclass
class Picture:
    """A decoded image.

    Args:
        pixels: (H, W, 3) uint8, sRGB, upright.
        alpha: (H, W) uint8, or None.
        format: Pillow's name of the file format.
        metadata: what `encode` hands to Pillow's save, so that nothing of the old file is lost.
        notes: what was changed on the way in, in words.
    """

    pixels: Pixels
    alpha: Pixels | None
    format: str
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def decode(file: Path | BytesIO) -> Picture:
    """Read an image of any mode that `FORMATS` hold.

    Orientation is applied and its tag reset, an embedded colour profile is converted to sRGB, greyscale, palette, CMYK
    and 16-bit images become 8-bit RGB, and transparency is kept apart.

    Raises:
        ImageError: not an image, broken, animated, too large, or of a kind without a plain meaning in RGB.
    """
    try:
        image = Image.open(file, formats=FORMATS)
        frames = getattr(image, "n_frames", 1)
        # A phone's JPEG may carry a second picture for the depth (MPO); the first one is the photograph.
        if frames > 1 and image.format != "MPO":
            raise ImageError(f"has {frames} frames or pages; only still images can be enhanced")
        deep = _is_16_bit(image)
        image.load()
        text = dict(getattr(image, "text", {}))
        original, exif = image.mode, image.getexif()
        upright = ImageOps.exif_transpose(image)
        rgb, alpha, notes = _to_rgb(upright, deep)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("is no image in a known format (PNG, JPEG, WebP, TIFF, AVIF)") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"is too large: {first_line(error)}") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, MemoryError) as error:
        raise ImageError(f"is broken: {first_line(error)}") from error
    if original not in ("RGB", "RGBA"):
        notes.insert(0, f"{_kind(original)} read as RGB")
    if image.format == "MPO":
        notes.append("only the first of its pictures")
    format = "JPEG" if image.format == "MPO" else str(image.format)
    return Picture(rgb, alpha, format, _metadata(upright, exif, format, text), notes)


def encode(picture: Picture, pixels: Pixels) -> bytes:
    """A file like the picture's own with other pixels, (H, W, 3) uint8: same format, metadata and transparency.

    JPEG at quality 95 without chroma subsampling; WebP at 95, AVIF at 90; PNG and TIFF without loss.
    """
    image = Image.fromarray(pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"quality": 95},
        "AVIF": {"quality": 90},
        "TIFF": {"compression": "tiff_deflate"},
    }
    metadata = dict(picture.metadata)
    if "text" in metadata:
        metadata["pnginfo"] = _text_chunks(metadata.pop("text"))
    buffer = BytesIO()
    image.save(buffer, picture.format, **options.get(picture.format, {}), **metadata)
    return buffer.getvalue()


def read_rgb(path: Path) -> Pixels:
    """(H, W, 3) uint8, sRGB, upright; transparency is dropped.

    Raises:
        ImageError: with the path.
    """
    try:
        return decode(path).pixels
    except ImageError as error:
        raise ImageError(f"{path} {error}") from error


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) in px from the header alone.

    Raises:
        ImageError: with the path.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} can't be read: {first_line(error)}") from error


def list_images(folder: Path) -> list[Path]:
    """Image files below a folder, by their names' endings, in order; hidden files and folders left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def write_grid(rows: Sequence[Tensor], path: Path) -> None:
    """A PNG whose rows are batches (N, 3, H, W) in [-1, 1] of one size."""
    grid = torch.cat([torch.cat(list(row.float().clamp(-1, 1)), dim=2) for row in rows], dim=1)
    pixels = ((grid + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    with replacing(path) as beside:
        Image.fromarray(pixels).save(beside, "PNG")


def _is_16_bit(image: Image.Image) -> bool:
    # Pillow drops the lower byte of 16-bit RGB as it reads; only the raw mode of the tile still tells.
    raw = [str(part) for tile in getattr(image, "tile", []) for part in np.ravel(np.array(tile[3], dtype=object))]
    return image.mode.startswith("I;16") or any(";16" in part for part in raw)


def _to_rgb(image: Image.Image, deep: bool) -> tuple[Pixels, Pixels | None, list[str]]:
    notes: list[str] = []
    if image.mode in ("I", "F"):
        raise ImageError(f"has 32 bits a pixel (mode {image.mode}); save it with 8 or 16")
    if deep:
        notes.append("16 bits reduced to 8")
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.float32) / 257
        image = _with_info(Image.fromarray(grey.round().astype(np.uint8)), image)
    alpha = None
    if image.has_transparency_data:
        image = _with_info(image.convert("RGBA"), image)
        alpha = np.asarray(image.getchannel("A"))
        image = _with_info(image.convert("RGB"), image)
    if image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = _with_info(image.convert("RGB"), image)
    if profile := image.info.get("icc_profile"):
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, _srgb(), outputMode="RGB")
            if converted is not None:
                return np.asarray(converted), alpha, notes
        except (ImageCms.PyCMSError, OSError) as error:
            notes.append(f"its colour profile is not usable ({first_line(error)}); taken for sRGB")
    return np.asarray(image.convert("RGB")), alpha, notes


def _with_info(new: Image.Image, old: Image.Image) -> Image.Image:
    new.info = dict(old.info)
    return new


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _kind(mode: str) -> str:
    names = {"1": "black and white", "L": "greyscale", "LA": "greyscale", "P": "palette", "PA": "palette"}
    return names.get(mode, "greyscale" if mode.startswith("I") else mode)


def _metadata(image: Image.Image, exif: Image.Exif, format: str, text: dict[str, str]) -> dict[str, Any]:
    info = image.info
    kept: dict[str, Any] = {key: info[key] for key in ("dpi", "xmp", "comment") if key in info}
    if info.get("icc_profile"):
        kept["icc_profile"] = _srgb().tobytes()
    if format == "PNG" and text:
        kept["text"] = text
        kept.pop("xmp", None)  # it is one of the text chunks
    if format == "TIFF":
        kept = {key: value for key, value in kept.items() if key in ("dpi", "icc_profile")}
        lean = Image.Exif()
        for tag in _TIFF_TAGS:
            if tag in exif:
                lean[tag] = exif.get_ifd(tag) if isinstance(tag, ExifTags.IFD) else exif[tag]
        if len(lean):
            kept["exif"] = lean
    elif info.get("exif"):
        kept["exif"] = info["exif"]
    return kept


def _text_chunks(text: dict[str, str]) -> PngInfo:
    chunks = PngInfo()
    for key, value in text.items():
        language, translated = getattr(value, "lang", None), getattr(value, "tkey", None)
        if language is not None or translated is not None:
            chunks.add_itxt(key, value, language or "", translated or "")
        else:
            chunks.add_text(key, value)
    return chunks
