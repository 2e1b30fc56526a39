"""What a file says beside its pixels: read, brought up to date, and put into the file that is made from it.

Kept: EXIF, XMP, IPTC, a PNG's text and its words on colour (as the bytes they were), resolution, comment. Brought up to
date: orientation, sizes, the colour profile (pixels are sRGB now). Left out, and said: what would tell of the picture
before, as a thumbnail, an HDR gain map, or a signed manifest (C2PA).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from struct import pack
from typing import Any
from zlib import crc32

from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from undistill.base.errors import first_line
from undistill.images.xmp import XmpError, without

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
_TIFF_XMP, _TIFF_IPTC, _TIFF_C2PA = 700, 33723, 0xCD41
_JPEG_IPTC = 0x0404  # among Photoshop's resources
_SEGMENT = 65533  # bytes that a JPEG's can hold
XMP_LIMIT = _SEGMENT - len("http://ns.adobe.com/xap/1.0/\0")
"""Bytes of XMP that a JPEG can hold."""

XMP_MOST = 4_000_000
"""Bytes of XMP that are read and kept. Portraits have kilobytes; megabytes are a program's mistake, or meant to keep us
busy."""

_MORE_XMP = b"http://ns.adobe.com/xmp/extension/"
_EXIF = b"Exif\0\0"
_PNG = b"\x89PNG\r\n\x1a\n"
_IHDR_END = len(_PNG) + 25
_PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_PNG_COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_PNG_EXIF = ("Raw profile type exif", "Raw profile type APP1")
_PNG_XMP = "XML:com.adobe.xmp"
_OF_SRGB = (b"\x01\x0d\x00\x01", 0.45455)  # what cICP and gAMA say of it

SIGNED = "its C2PA manifest, which is of the picture before, left out"
_BEHIND = rb"http://ns\.(?:adobe\.com/hdr-gain-map|google\.com/photos/1\.0/container|apple\.com/HDRGainMap)/[^\"']*"


@dataclass
class Metadata:
    """Args:
    exif: as in a JPEG, from "Exif" on.
    xmp: an XML packet.
    iptc: its records, as in a Photoshop resource or a TIFF tag.
    icc: a colour profile; that of sRGB, if the file had one.
    dpi: across and down.
    comment: a JPEG's or GIF's.
    text: of an image that Pillow has opened, by keyword.
    chunks: a PNG's text and words on colour, as they stood in the file.
    """

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    icc: bytes = b""
    dpi: tuple[float, float] | None = None
    comment: bytes | str = b""
    text: dict[str, str] = field(default_factory=dict)
    chunks: bytes = b""

    @property
    def info(self) -> dict[str | tuple[int, int], Any]:
        """As Pillow gives it for an image that it has opened."""
        named = {"exif": self.exif, "xmp": self.xmp, "icc_profile": self.icc, "dpi": self.dpi, "comment": self.comment}
        info: dict[str | tuple[int, int], Any] = {}
        info.update(self.text)
        return info | {key: value for key, value in named.items() if value}


def srgb_profile() -> ImageCms.ImageCmsProfile:
    """A new profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def srgb_bytes() -> bytes:
    """The profile as a file holds it: the same at any time, or the same command would not end with the same bytes."""
    made = bytearray(srgb_profile().tobytes())
    made[24:36] = pack(">6H", 2026, 1, 1, 0, 0, 0)  # where its date stands
    return bytes(made)


def set_apart(data: bytes) -> tuple[bytes, bytes]:
    """A PNG without its text, and the chunks that the next file takes over as they are; another file, and nothing.

    Pillow refuses pictures with long texts, and forgets which were compressed. XMP and EXIF stay for it to read.
    """
    if not data.startswith(_PNG):
        return data, b""
    kept, rest, last = [], [], 0
    kinds: set[bytes] = set()
    for kind, start, end in _chunks(data):
        kinds.add(kind)
        if kind in _PNG_COLOUR:
            kept.append((kind, data[start:end]))
        elif kind in _PNG_TEXT:
            keyword = data[start + 8 : start + 88].split(b"\0")[0].decode("latin-1")
            whole = crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
            if whole and keyword not in (*_PNG_EXIF, _PNG_XMP):
                kept.append((kind, data[start:end]))
                rest.append(data[last:start])
                last = end
    # Pixels with a profile are converted by it, and have sRGB's afterwards.
    chunks = b"".join(chunk for kind, chunk in kept if kind in _PNG_TEXT or b"iCCP" not in kinds)
    return (b"".join((*rest, data[last:])) if rest else data), chunks


def _chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk that is whole."""
    start = len(_PNG)
    while (end := start + 12 + int.from_bytes(png[start : start + 4], "big")) <= len(png):
        yield png[start + 4 : start + 8], start, end
        start = end


def webp_chunks(data: bytes) -> set[bytes]:
    """The kinds of chunks in a WebP file; of another file, none."""
    kinds: set[bytes] = set()
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        start = 12
        while start + 8 <= len(data):
            kinds.add(data[start : start + 4])
            size = int.from_bytes(data[start + 4 : start + 8], "little")
            start += 8 + size + size % 2
    return kinds


def is_signed(image: Image.Image, data: bytes) -> bool:
    """A TIFF, AVIF or GIF has a C2PA manifest; of a PNG or JPEG `read_metadata` says so.

    Args:
        image: as it was opened.
        data: its file's bytes.
    """
    if image.format == "TIFF":
        return _TIFF_C2PA in image.getexif()
    marks = {"AVIF": b"\xd8\xfe\xc3\xd6\x1b\x0e\x48\x3c\x92\x97\x58\x28\x87\x7e\xc4\x81", "GIF": b"C2PA_GIF"}
    return image.format in marks and marks[image.format] in data


def read_metadata(
    image: Image.Image, straight: Image.Image, exif: Image.Exif, chunks: bytes, notes: list[str]
) -> Metadata:
    """What goes into the next file.

    Args:
        image: as it was opened, with its pixels loaded.
        straight: the same upright.
        exif: of `straight`.
        chunks: see `set_apart`.
        notes: what is left out is added to it.
    """
    info: dict[Any, Any] = straight.info
    found = Metadata(chunks=chunks)
    if all(isfinite(float(density)) and density > 0 for density in info.get("dpi", (0,))):
        found.dpi = info["dpi"]
    if image.format != "PNG":  # where it is a text of this name
        found.comment = info.get("comment", b"")
    if image.info.get("icc_profile"):
        found.icc = srgb_bytes()
    elif image.format == "PNG" or image.format is None:
        _say_colour(info, chunks, notes)
    try:
        found.exif = _fresh_exif(image.format, straight, exif, notes)
    except Exception as error:  # whatever broken bytes led Pillow to
        notes.append(f"its EXIF data can't be read ({first_line(error)}); left out")
    xmp = info.get("xmp") or info.get(_PNG_XMP, b"")
    found.xmp = _fresh_xmp(xmp.encode() if isinstance(xmp, str) else bytes(xmp), notes)
    if any(data.startswith(_MORE_XMP) for _, data in getattr(image, "applist", [])):
        notes.append("the second part of its XMP left out")
    found.iptc = _iptc(image)
    if image.format in ("PNG", None):
        # An image that is no file's has its text among the rest.
        text = {key: value for key, value in getattr(image, "text", info).items() if isinstance(value, str)}
        found.text = {key: value for key, value in text.items() if key not in (*_PNG_EXIF, _PNG_XMP)}
    private = getattr(image, "private_chunks", []), getattr(image, "applist", [])
    if any(kind == b"caBX" for kind, *_ in private[0]) or any(b"c2pa" in data for name, data in private[1]):
        notes.append(SIGNED)
    return found


def _say_colour(info: dict[Any, Any], chunks: bytes, notes: list[str]) -> None:
    where = chunks.find(b"cICP")
    if where >= 0:
        code = chunks[where + 4 : where + 8]
        if code != _OF_SRGB[0]:
            notes.append(f"its colour (cICP {code[0]}, {code[1]}) treated as sRGB's")
    elif abs(info.get("gamma", _OF_SRGB[1]) - _OF_SRGB[1]) > 0.01:
        notes.append(f"its gamma of {info['gamma']:.4g} treated as sRGB's")


def _fresh_exif(format: str | None, straight: Image.Image, exif: Image.Exif, notes: list[str]) -> bytes:
    """The bytes as they were, unless they hold a thumbnail or the size from before it was turned."""
    before: bytes = straight.info.get("exif", b"")
    if format == "TIFF":
        before = b""
        for tag in set(exif) - set(_TIFF_TAGS):
            del exif[tag]
    elif before and not before.startswith(_EXIF):
        before = _EXIF + before  # a WebP's
    if not before and not len(exif):
        return b""
    seen = Image.Exif()
    seen.load(before or exif.tobytes())
    thumbnail = bool(seen.get_ifd(ExifTags.IFD.IFD1))
    if thumbnail:
        notes.append("its thumbnail left out")
    size = {ExifTags.Base.ExifImageWidth: straight.width, ExifTags.Base.ExifImageHeight: straight.height}
    inner = exif.get_ifd(ExifTags.IFD.Exif) if ExifTags.IFD.Exif in exif else {}
    stale = {int(tag): length for tag, length in size.items() if inner.get(tag, length) != length}
    if before and not thumbnail and not stale:
        return before
    inner.update(stale)
    return exif.tobytes()


def _fresh_xmp(xmp: bytes, notes: list[str]) -> bytes:
    """XMP that claims no gain map for HDR screens, nor a film, behind the picture: they are not in the new file."""
    if len(xmp) > XMP_MOST:
        notes.append(f"its {len(xmp) / 1e6:.3g} MB of XMP left out")
        return b""
    if not re.search(rb"xmlns:[\w.-]+\s*=\s*[\"']" + _BEHIND, xmp):
        return xmp
    what = "HDR gain map" if re.search(rb"GainMap|hdr-gain-map", xmp) else "film"
    try:
        xmp = without(xmp, lambda name: re.match(_BEHIND, name.partition(" ")[0].encode()) is not None)
    except XmpError:
        notes.append(f"its XMP, which is broken, and its {what} left out")
        return b""
    notes.append(f"its {what} left out")
    return xmp


def _iptc(image: Image.Image) -> bytes:
    if image.format == "TIFF":
        value = image.getexif().get(_TIFF_IPTC, b"")
        return value if isinstance(value, bytes) else b""
    resources = image.info.get("photoshop")
    found = resources.get(_JPEG_IPTC, b"") if isinstance(resources, dict) else b""
    return found if isinstance(found, bytes) else b""


def save_options(metadata: Metadata, format: str) -> dict[str, Any]:
    """What Pillow's `save` is told, so that a file of this format holds as much of it as it can."""
    options: dict[str, Any] = {}
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if metadata.dpi and format in ("PNG", "JPEG", "TIFF"):
        options["dpi"] = metadata.dpi
    if format == "TIFF":
        return options | _tiff_tags(metadata)
    if metadata.exif and not (format == "JPEG" and len(metadata.exif) > _SEGMENT):
        options["exif"] = metadata.exif
    if format == "PNG":
        return options | {"pnginfo": _text_chunks(metadata)}
    if metadata.xmp and not (format == "JPEG" and len(metadata.xmp) > XMP_LIMIT):
        options["xmp"] = metadata.xmp
    if format == "JPEG":
        # Pillow would take that of the image.
        options |= {"comment": metadata.comment, "extra": _iptc_segment(metadata.iptc)}
    return options


def left_out(metadata: Metadata, format: str) -> list[str]:
    """What a file of this format can't hold of it, in words."""
    kinds = [kind for kind in _PNG_COLOUR if kind in metadata.chunks and kind != b"sRGB"]
    missing = {
        "PNG text": format != "PNG" and bool(metadata.text or any(kind in metadata.chunks for kind in _PNG_TEXT)),
        f"words on colour ({', '.join(kind.decode() for kind in kinds)})": format != "PNG" and bool(kinds),
        "IPTC": format not in ("JPEG", "TIFF") and bool(metadata.iptc),
        "comment": format != "JPEG" and bool(metadata.comment),
        "resolution": format in ("WEBP", "AVIF") and bool(metadata.dpi),
        "EXIF": format == "JPEG" and len(metadata.exif) > _SEGMENT,
        "XMP": format == "JPEG" and len(metadata.xmp) > XMP_LIMIT,
    }
    return [what for what, is_so in missing.items() if is_so]


def with_chunks(png: bytes, chunks: bytes) -> bytes:
    """A PNG with these chunks behind its header."""
    return png[:_IHDR_END] + chunks + png[_IHDR_END:] if chunks else png


def _text_chunks(metadata: Metadata) -> PngInfo:
    made = PngInfo()
    for key, value in {} if metadata.chunks else metadata.text.items():
        language, translated = getattr(value, "lang", None), getattr(value, "tkey", None)
        if language is not None or translated is not None:
            made.add_itxt(key, value, language or "", translated or "")
        else:
            made.add_text(key, value)
    if metadata.xmp:
        made.add_itxt(_PNG_XMP, metadata.xmp.decode("utf-8", "replace"))
    return made


def _tiff_tags(metadata: Metadata) -> dict[str, Any]:
    tags = Image.Exif()
    tags.load(metadata.exif)
    for tag in set(tags) - set(_TIFF_TAGS):
        del tags[tag]
    for tag, value in ((_TIFF_XMP, metadata.xmp), (_TIFF_IPTC, metadata.iptc)):
        if value:
            tags[tag] = value
    return {"exif": tags} if len(tags) else {}


def _iptc_segment(iptc: bytes) -> bytes:
    if not iptc:
        return b""
    resource = b"8BIM" + _JPEG_IPTC.to_bytes(2, "big") + b"\0\0" + len(iptc).to_bytes(4, "big") + iptc
    segment = b"Photoshop 3.0\0" + resource + b"\0" * (len(iptc) % 2)
    return b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment if len(segment) <= _SEGMENT else b""
