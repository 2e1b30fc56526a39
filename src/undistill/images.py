"""The one door for pixels: decode, encode, colour, metadata.

Inside undistill an image is RGB, 8 bits, sRGB, upright. What it was before, and what has to go back into the file that
is made from it, travels along in a `Picture`.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError, features
from PIL.PngImagePlugin import PngInfo

from undistill.base.errors import Failure, first_line
from undistill.base.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

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

_PNG_EXIF = ("Raw profile type exif", "Raw profile type APP1")
_PNG_XMP = "XML:com.adobe.xmp"


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
        return to_picture(image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("is no image in a known format (PNG, JPEG, WebP, TIFF, AVIF)") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"is too large: {first_line(error)}") from error
    except Exception as error:  # Pillow's readers raise whatever the broken bytes led them to
        raise ImageError(f"is broken: {first_line(error)}") from error


def to_picture(image: Image.Image) -> Picture:
    """What `decode` makes of a file, of a PIL image; it may be open still, and stays as it is.

    Raises:
        ImageError: 32 bits a pixel.
        Exception: Pillow's, where the file behind it is broken.
    """
    deep = _is_16_bit(image)
    image.load()
    notes = []
    if image.mode not in ("RGB", "RGBA"):
        notes.append(f"{_kind(image.mode)} read as RGB")
    if deep:
        notes.append("16 bits reduced to 8")
    if image.format == "MPO":
        notes.append("only the first of its pictures")
    straight, exif = upright(image, notes)
    pixels, alpha = to_rgb(straight, notes)
    format = _format(image)
    return Picture(pixels, alpha, format, _metadata(image, straight, exif, format), notes)


def format_of(data: bytes) -> str:
    """The `Picture.format` that `decode` finds in a file's bytes, from the header alone.

    Raises:
        ImageError: not an image.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            return _format(image)
    except Exception as error:  # see decode
        raise ImageError(f"is broken: {first_line(error)}") from error


def to_image(picture: Picture, pixels: Pixels) -> Image.Image:
    """A PIL image with other pixels, (H, W, 3) uint8, and with the picture's transparency and metadata.

    Its `info` has them as that of an image that Pillow has opened: EXIF (`getexif`), XMP and PNG text by their names.
    """
    image = Image.fromarray(pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    metadata = dict(picture.metadata)
    image.info = metadata.pop("text", {}) | metadata
    if isinstance(exif := metadata.get("exif"), Image.Exif):
        image.info["exif"] = exif.tobytes()
    return image


def encode(picture: Picture, pixels: Pixels) -> bytes:
    """A file like the picture's own with other pixels, (H, W, 3) uint8: same format, metadata and transparency.

    JPEG at quality 95 without chroma subsampling; WebP at 95, AVIF at 90; PNG and TIFF without loss.
    """
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"quality": 95},
        "AVIF": {"quality": 90},
        # libtiff, which compresses, can't write the directories of EXIF data.
        "TIFF": {} if "exif" in picture.metadata else {"compression": "tiff_deflate"},
    }
    metadata = dict(picture.metadata)
    if "text" in metadata:
        metadata["pnginfo"] = _text_chunks(metadata.pop("text"))
    buffer = BytesIO()
    to_image(picture, pixels).save(buffer, picture.format, **options.get(picture.format, {}), **metadata)
    return buffer.getvalue()


def png(pixels: Pixels) -> bytes:
    """A PNG of (H, W, 3) uint8, soon rather than small: for files that are soon deleted."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_rgb(data: bytes) -> Pixels:
    """The pixels that `decode` finds in a file's bytes; sooner where these are a plain PNG, as our own are.

    Raises:
        ImageError: see `decode`.
    """
    with suppress(Exception):  # `decode` will say what is wrong
        image = Image.open(BytesIO(data), formats=["PNG"])
        if image.mode == "RGB" and not image.info:
            image.load()
            if not image.info:  # nor anything behind the pixels
                return np.asarray(image)
    return decode(BytesIO(data)).pixels


def read_rgb(path: Path) -> Pixels:
    """(H, W, 3) uint8, sRGB, upright; transparency is dropped.

    Raises:
        ImageError: with the path.
    """
    try:
        return decode(path).pixels
    except ImageError as error:
        raise ImageError(f"{path} {error}") from error


def to_tensor(pixels: Pixels) -> "Tensor":
    """(..., 3, H, W) in [-1, 1] of (..., H, W, 3) uint8."""
    import torch  # takes seconds, and who shows pictures needs none

    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).movedim(-1, -3).float() / 127.5 - 1


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


def write_grid(rows: Sequence["Tensor"], path: Path) -> None:
    """A PNG whose rows are batches (N, 3, H, W) in [-1, 1] of one size."""
    import torch

    grid = torch.cat([torch.cat(list(row.float().clamp(-1, 1)), dim=2) for row in rows], dim=1)
    pixels = ((grid + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    with replacing(path) as beside:
        Image.fromarray(pixels).save(beside, "PNG")


def _is_16_bit(image: Image.Image) -> bool:
    # Pillow drops the lower byte of 16-bit RGB as it reads; only the raw mode of the tile still tells.
    raw = [str(part) for tile in getattr(image, "tile", []) for part in np.ravel(np.array(tile[3], dtype=object))]
    return image.mode.startswith("I;16") or any(";16" in part for part in raw)


def to_rgb(image: Image.Image, notes: list[str]) -> tuple[Pixels, Pixels | None]:
    """Pixels (H, W, 3) in sRGB and alpha (H, W) of an image in any mode; an embedded profile is converted.

    Args:
        notes: what the user should know is added to it.

    Raises:
        ImageError: 32 bits a pixel.
    """
    if image.mode in ("I", "F"):
        raise ImageError(f"has 32 bits a pixel (mode {image.mode}); save it with 8 or 16")
    profile = image.info.get("icc_profile")
    alpha: Pixels | None = None
    if image.mode.startswith("I;16"):
        deep = np.asarray(image)
        if isinstance(transparent := image.info.get("transparency"), int):
            alpha = np.where(deep == transparent, 0, 255).astype(np.uint8)
        image = Image.fromarray((deep.astype(np.float32) / 257).round().astype(np.uint8))
    elif image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    # What a profile can be made for: grey stays grey until it is applied.
    image = image.convert(
        "L" if image.mode in ("1", "L", "LA", "La") else image.mode if image.mode in ("CMYK", "LAB") else "RGB"
    )
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, _srgb(), outputMode="RGB")
            if converted is not None:
                return np.asarray(converted), alpha
        except (ImageCms.PyCMSError, OSError) as error:
            notes.append(f"its colour profile is not usable ({first_line(error)}); taken for sRGB")
    return np.asarray(image.convert("RGB")), alpha


def upright(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Exif]:
    """A copy of an image with its orientation applied, and its EXIF without it; EXIF that can't be read is dropped.

    Args:
        notes: what the user should know is added to it.
    """
    try:
        straight = ImageOps.exif_transpose(image)
        # A TIFF's own tags, which the copy has lost. The image keeps what it gives, so that we change a copy.
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())
    except Exception as error:  # see decode
        notes.append(f"its EXIF data can't be read ({first_line(error)}); left out")
        bare = image.copy()
        bare.info.pop("exif", None)
        return bare, Image.Exif()
    exif.pop(ExifTags.Base.Orientation, None)
    return straight, exif


def _format(image: Image.Image) -> str:
    return "JPEG" if image.format == "MPO" else image.format or "PNG"


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _kind(mode: str) -> str:
    names = {"1": "black and white", "L": "greyscale", "LA": "greyscale", "P": "palette", "PA": "palette"}
    return names.get(mode, "greyscale" if mode.startswith("I") else mode)


def _metadata(image: Image.Image, straight: Image.Image, exif: Image.Exif, format: str) -> dict[str, Any]:
    info = straight.info
    kept: dict[str, Any] = {key: info[key] for key in ("dpi", "xmp", "comment") if key in info}
    if image.info.get("icc_profile"):
        kept["icc_profile"] = _srgb().tobytes()
    if format == "PNG":
        # EXIF goes into its own chunk (old writers hid it in a text), XMP without the old orientation.
        # An image that is no file's has its text among the rest.
        text = {key: value for key, value in getattr(image, "text", info).items() if key not in _PNG_EXIF}
        text = {key: value for key, value in text.items() if isinstance(value, str)}
        if isinstance(info.get(_PNG_XMP), str):
            text[_PNG_XMP] = info[_PNG_XMP]
        kept.pop("xmp", None)
        kept["text"] = text
    if format == "TIFF":
        kept = {key: value for key, value in kept.items() if key in ("dpi", "icc_profile")}
        lean = Image.Exif()
        lean.load(exif.tobytes())
        for tag in set(lean) - set(_TIFF_TAGS):
            del lean[tag]
        exif = lean
    if format != "TIFF" and "exif" in info:
        kept["exif"] = info["exif"]  # the bytes as they were, unless the orientation had to go
    elif len(exif):
        kept["exif"] = exif
    return kept


def _text_chunks(text: dict[str, str]) -> PngInfo:
    chunks = PngInfo()
    for key, value in text.items():
        language, translated = getattr(value, "lang", None), getattr(value, "tkey", None)
        if language is not None or translated is not None or key == _PNG_XMP:
            chunks.add_itxt(key, value, language or "", translated or "")
        else:
            chunks.add_text(key, value)
    return chunks
