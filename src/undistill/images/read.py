"""Decode: whatever a file holds becomes RGB, 8 bits, sRGB, upright."""

import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from mimetypes import guess_type
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from undistill.base.errors import first_line
from undistill.images.metadata import SIGNED, is_signed, read_metadata, set_apart, srgb_profile, webp_chunks
from undistill.images.picture import EXTENSIONS, FORMATS, READ_ONLY, ImageError, NoImage, Picture, Pixels, TooLarge

warnings.filterwarnings("ignore", module=r"PIL\.")  # broken files warn, and then raise: that is what is said of them
# Pictures that Python's table of types may lack.
_FOREIGN = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".exr", ".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw")
_NO_IMAGE = "is no image in a known format (PNG, JPEG, WebP, TIFF, AVIF, BMP, GIF)"
_GREY = ("1", "L", "LA", "La")


def decode(file: Path | BytesIO) -> Picture:
    """Read an image of any mode that `FORMATS` hold.

    Orientation is applied and its tag reset, an embedded colour profile is converted to sRGB, greyscale, palette, CMYK
    and 16-bit images become 8-bit RGB, and transparency is kept apart.

    Raises:
        ImageError: not an image, broken, animated, too large, or of a kind without a plain meaning in RGB.
    """
    try:
        data = file.read_bytes() if isinstance(file, Path) else file.getvalue()
        rest, chunks = set_apart(data)
        image = Image.open(BytesIO(rest), formats=FORMATS)
        frames = getattr(image, "n_frames", 1)
        # A phone's JPEG may carry a second picture for the depth (MPO); the first one is the photograph.
        if frames > 1 and image.format != "MPO":
            raise ImageError(f"has {frames} frames or pages; only still images can be enhanced")
        picture = to_picture(image, chunks)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise NoImage(_NO_IMAGE) from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"is too large: {first_line(error)}") from error
    except Exception as error:  # Pillow's readers raise whatever the broken bytes led them to
        raise ImageError(f"is broken: {first_line(error)}") from error
    kinds = webp_chunks(data)
    picture.lossless = b"VP8L" in kinds
    if b"C2PA" in kinds or is_signed(image, data):
        picture.notes.append(SIGNED)
    return picture


def to_picture(image: Image.Image, chunks: bytes = b"") -> Picture:
    """What `decode` makes of a file, of a PIL image; it may be open still, and stays as it is.

    Args:
        chunks: of its file, that Pillow has not seen: see `metadata.set_apart`.

    Raises:
        ImageError: 32 bits a pixel.
        Exception: Pillow's, where the file behind it is broken.
    """
    deep = _is_16_bit(image)
    image.load()
    notes = []
    grey = image.mode in _GREY or image.mode.startswith("I;16")
    if not grey and image.mode not in ("RGB", "RGBA"):
        notes.append(f"{'palette' if image.mode in ('P', 'PA') else image.mode} read as RGB")
    if deep:
        notes.append("16 bits reduced to 8")
    if image.format == "MPO":
        notes.append("only the first of its pictures")
    if image.format in READ_ONLY:
        notes.append(f"{image.format} written as PNG")
    straight, exif = _upright(image, notes)
    pixels, alpha = to_rgb(straight, notes)
    metadata = read_metadata(image, straight, exif, chunks, notes)
    return Picture(pixels, alpha, _format(image), metadata, notes, grey)


def format_of(data: bytes) -> str:
    """The `Picture.format` that `decode` finds in a file's bytes, from the header alone.

    Raises:
        ImageError: not an image.
    """
    try:
        with _opened(data) as image:
            return _format(image)
    except Exception as error:  # see decode
        raise ImageError(f"is broken: {first_line(error)}") from error


@dataclass(frozen=True)
class Header:
    """What a file's first bytes say: Pillow's name of its format, and its size, px."""

    format: str
    width: int
    height: int


def header_of(data: bytes) -> Header:
    """See `Header`; no pixel is decoded.

    Raises:
        NoImage: of a format that is not read.
        TooLarge: of more pixels than `decode` takes.
        ImageError: broken.
    """
    try:
        with _opened(data) as image:
            return Header(image.format or "", *image.size)
    except UnidentifiedImageError as error:
        raise NoImage(_NO_IMAGE) from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"is too large: {first_line(error)}") from error
    except Exception as error:  # see decode
        raise ImageError(f"is broken: {first_line(error)}") from error


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


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) in px from the header alone.

    Raises:
        ImageError: with the path.
    """
    try:
        with _opened(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} can't be read: {first_line(error)}") from error


def _opened(file: Path | bytes) -> Image.Image:
    """For the header alone."""
    try:
        return Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)
    except ValueError:  # a text before the pixels that is too long for Pillow
        data = file if isinstance(file, bytes) else file.read_bytes()
        return Image.open(BytesIO(set_apart(data)[0]), formats=FORMATS)


@dataclass(frozen=True)
class Listing:
    """What lies below a folder, in order; hidden files and folders left out.

    Args:
        images: files, by their names' endings.
        others: what looks like a picture, and can't be read.
        closed: folders that can't be read.
    """

    images: list[Path]
    others: list[Path]
    closed: list[Path]


def look_through(folder: Path) -> Listing:
    """See `Listing`."""
    found = Listing([], [], [])
    for here, folders, files in os.walk(folder, onerror=lambda error: found.closed.append(Path(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(here) / name for name in files if not name.startswith(".")):
            if path.suffix.lower() in EXTENSIONS and path.is_file():
                found.images.append(path)
            elif path.suffix.lower() in EXTENSIONS or _is_foreign(path):
                found.others.append(path)
    return Listing(sorted(found.images), sorted(found.others), sorted(found.closed))


def list_images(folder: Path) -> list[Path]:
    """The images below a folder: see `look_through`.

    Raises:
        ImageError: a folder in it can't be read.
    """
    found = look_through(folder)
    if found.closed:
        raise ImageError(f"{found.closed[0]} can't be read: look at its rights")
    return found.images


def _is_foreign(path: Path) -> bool:
    kind = guess_type(path.name)[0] or ""
    return kind.startswith("image/") or path.suffix.lower() in _FOREIGN


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
        alpha = np.asarray(_converted(image, "RGBA").getchannel("A"))
    # What a profile can be made for: grey stays grey until it is applied.
    image = _converted(image, "L" if image.mode in _GREY else image.mode if image.mode in ("CMYK", "LAB") else "RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, srgb_profile(), outputMode="RGB")
            if converted is not None:
                return np.asarray(converted), alpha
        except (ImageCms.PyCMSError, OSError) as error:
            notes.append(f"its colour profile is not usable ({first_line(error)}); taken for sRGB")
    return np.asarray(_converted(image, "RGB")), alpha


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """The image itself where it has that mode; Pillow would copy it."""
    return image if image.mode == mode else image.convert(mode)


def upright(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Exif]:
    """A copy of an image with its orientation applied, and its EXIF without it; EXIF that can't be read is dropped.

    Args:
        notes: what the user should know is added to it.
    """
    straight, exif = _upright(image, notes)
    return (straight.copy() if straight is image else straight), exif


def _upright(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Exif]:
    """See `upright`; the image itself where it is upright."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        straight = ImageOps.exif_transpose(image) if turned else image
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
    if image.format is None or image.format in READ_ONLY:
        return "PNG"
    return "JPEG" if image.format == "MPO" else image.format
