"""What a file says of itself is in the file that is made from it, is up to date, or is named as left out."""

from io import BytesIO
from struct import pack
from time import process_time
from typing import Any
from xml.etree import ElementTree
from zlib import compress, crc32

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from research.faults.corpus import ULTRA_HDR, XMP

from tests.images.test_read import again, file, picture
from undistill.images import Encoding, ImageError, decode, encode, format_of, left_out, metadata, size_of, to_picture
from undistill.images.metadata import srgb_bytes, srgb_profile


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + crc32(kind + data).to_bytes(4, "big")


def with_chunk(kind: bytes, data: bytes, mode: str = "RGB") -> bytes:
    png = file(picture(mode=mode), "PNG").getvalue()
    return png[:33] + chunk(kind, data) + png[33:]


def enhanced(data: bytes) -> tuple[bytes, list[str]]:
    decoded = decode(BytesIO(data))
    return encode(decoded, 255 - decoded.pixels), decoded.notes


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data


IPTC = b"\x1c\x02\x50\x00\x03Ada"  # a by-line


def iptc_jpeg() -> bytes:
    resources = b"8BIM\x04\x04\0\0" + len(IPTC).to_bytes(4, "big") + IPTC
    jpeg = file(picture(), "JPEG").getvalue()
    return jpeg[:2] + segment(0xED, b"Photoshop 3.0\0" + resources) + jpeg[2:]


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_text_keeps_its_chunk_whatever_its_length(kind: bytes) -> None:
    """ComfyUI's workflows: 1 MB that is compressed stays so, and what Pillow refuses to read is kept."""
    text = b'{"nodes": ' + b"1" * 2_000_000 + b"}"
    body = {b"tEXt": text, b"zTXt": b"\0" + compress(text), b"iTXt": b"\1\0\0\0" + compress(text)}[kind]
    data = with_chunk(kind, b"workflow\0" + body)
    written, notes = enhanced(data)
    assert notes == []
    assert chunk(kind, b"workflow\0" + body) in written
    assert len(written) < len(data) + 3000
    assert format_of(data) == "PNG"


def test_the_size_of_a_file_with_a_long_text_is_known(tmp_path: Any) -> None:
    (tmp_path / "long.png").write_bytes(with_chunk(b"zTXt", b"workflow\0\0" + compress(b"1" * 2_000_000)))
    assert size_of(tmp_path / "long.png") == picture().size


def test_a_broken_text_is_not_carried_on() -> None:
    data = with_chunk(b"tEXt", b"a\0b")
    with pytest.raises(ImageError):
        decode(BytesIO(data.replace(b"a\0b", b"a\0c")))


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (b"gAMA", (45455).to_bytes(4, "big"), ""),
        (b"gAMA", (100000).to_bytes(4, "big"), "its gamma of 1 treated as sRGB's"),
        (b"cICP", b"\x01\x0d\x00\x01", ""),
        (b"cICP", b"\x09\x10\x00\x01", "its colour (cICP 9, 16) treated as sRGB's"),
        (b"sRGB", b"\0", ""),
    ],
)
def test_words_on_colour_are_kept(kind: bytes, data: bytes, said: str) -> None:
    written, notes = enhanced(with_chunk(kind, data))
    assert chunk(kind, data) in written
    assert notes == ([said] if said else [])


def test_words_on_colour_that_a_profile_overrules_go_with_it() -> None:
    png = file(picture(), "PNG", icc_profile=srgb_bytes()).getvalue()
    for kind, data in ((b"gAMA", (100000).to_bytes(4, "big")), (b"cICP", b"\x09\x10\x00\x01")):
        written, _ = enhanced(png[:33] + chunk(kind, data) + png[33:])
        assert kind not in written
    assert b"iCCP" in written


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_xmp_is_kept(format: str) -> None:
    if format == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        data = file(picture(), "PNG", pnginfo=info)
    elif format == "TIFF":
        exif = Image.Exif()
        exif[700] = XMP
        data = file(picture(), "TIFF", exif=exif)
    else:
        data = file(picture(), format, xmp=XMP)
    written = again(decode(data))
    assert written.info["xmp"] == XMP


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_a_gain_map_is_claimed_no_more(format: str) -> None:
    decoded = decode(file(picture(), format, xmp=ULTRA_HDR))
    assert decoded.notes == ["its HDR gain map left out"]
    xmp = again(decoded).info["xmp"]
    assert b"Directory" not in xmp
    assert b"hdrgm:Version" not in xmp
    assert b'dc:creator="Ada"' in xmp
    assert ElementTree.fromstring(xmp).tag == "{adobe:ns:meta/}xmpmeta"  # whole to its end


def test_an_empty_gain_map_takes_no_neighbour_with_it() -> None:
    empty = ULTRA_HDR.replace(b"</rdf:Description>", b"<hdrgm:None/><dc:title>A</dc:title></rdf:Description>")
    decoded = decode(file(picture(), "WEBP", xmp=empty))
    assert b"<dc:title>A</dc:title></rdf:Description>" in decoded.metadata.xmp
    assert b"hdrgm:None" not in decoded.metadata.xmp


def test_iptc_is_kept() -> None:
    written, notes = enhanced(iptc_jpeg())
    assert notes == []
    with Image.open(BytesIO(written)) as image:
        assert image.info["photoshop"] == {0x0404: IPTC}
    exif = Image.Exif()
    exif[33723] = IPTC
    assert again(decode(file(picture(), "TIFF", exif=exif))).getexif()[33723] == IPTC


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
def test_exif_has_the_size_of_the_turned_picture(format: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner.update({ExifTags.Base.ExifImageWidth: 30, ExifTags.Base.ExifImageHeight: 20})
    inner[ExifTags.Base.DateTimeOriginal] = "2026:11:23 18:00:00"
    seen = again(decode(file(picture((30, 20)), format, exif=exif))).getexif().get_ifd(ExifTags.IFD.Exif)
    assert (seen[ExifTags.Base.ExifImageWidth], seen[ExifTags.Base.ExifImageHeight]) == (20, 30)
    assert seen[ExifTags.Base.DateTimeOriginal] == "2026:11:23 18:00:00"


def test_a_thumbnail_of_the_picture_before_is_left_out_and_exif_else_untouched() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Ada Okafor"
    plain = exif.tobytes()
    assert decode(file(picture(), "JPEG", exif=plain)).metadata.exif == plain
    # A second directory behind the first, as cameras write it: a JPEG's place, from the TIFF header on, and its length.
    thumbnail, place = file(picture((4, 4)), "JPEG").getvalue(), len(plain) - 6
    entries = ((0x0201, place + 30), (0x0202, len(thumbnail)))
    second = pack(">H", 2) + b"".join(pack(">HHII", tag, 4, 1, value) for tag, value in entries) + pack(">I", 0)
    assert plain[6:8] == b"MM"
    link = 6 + 8 + 2 + 12
    data = plain[:link] + pack(">I", place) + plain[link + 4 :] + second + thumbnail
    decoded = decode(file(picture(), "JPEG", exif=data))
    assert decoded.notes == ["its thumbnail left out"]
    assert thumbnail not in encode(decoded, decoded.pixels)
    assert again(decoded).getexif()[ExifTags.Base.Artist] == "Ada Okafor"


def test_a_signed_manifest_is_named() -> None:
    jpeg, webp = (file(picture(), format).getvalue() for format in ("JPEG", "WEBP"))
    for data in (
        jpeg[:2] + segment(0xEB, b"JP\0\0\0\0\0\1jumb c2pa") + jpeg[2:],
        with_chunk(b"caBX", b"jumb c2pa"),
        webp + b"C2PA\4\0\0\0jumb",
    ):
        written, notes = enhanced(data)
        assert notes == ["its C2PA manifest, which is of the picture before, left out"]
        assert b"jumb" not in written


def test_what_another_format_cannot_hold_is_named() -> None:
    text = decode(BytesIO(with_chunk(b"tEXt", b"parameters\0Steps: 4"))).metadata
    assert left_out(text, "WEBP") == ["PNG text"]
    assert left_out(text, "PNG") == []
    press = decode(BytesIO(iptc_jpeg())).metadata
    assert left_out(press, "PNG") == ["IPTC"]
    assert left_out(press, "TIFF") == []


def test_a_gifs_comment_a_resolution_and_words_on_colour_are_not_lost_in_silence() -> None:
    assert left_out(decode(file(picture(), "GIF", comment=b"by hand")).metadata, "PNG") == ["comment"]
    dense = decode(BytesIO(with_chunk(b"gAMA", (100000).to_bytes(4, "big")))).metadata
    dense.dpi = (72.0, 72.0)
    assert left_out(dense, "WEBP") == ["words on colour (gAMA)", "resolution"]
    assert left_out(dense, "PNG") == []


def test_exif_that_no_jpeg_can_hold_does_not_stop_it() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Ada" * 30000
    decoded = decode(file(picture(), "PNG", exif=exif))
    assert Image.open(BytesIO(encode(decoded, decoded.pixels, Encoding("JPEG")))).format == "JPEG"
    assert left_out(decoded.metadata, "JPEG") == ["EXIF"]


def test_a_resolution_that_is_none_is_dropped() -> None:
    decoded = decode(file(picture(), "TIFF"))
    assert decoded.metadata.dpi is None or min(decoded.metadata.dpi) > 0
    image = picture()
    image.info["dpi"] = (float("nan"), 72.0)
    assert to_picture(image).metadata.dpi is None


def test_a_tiffs_exif_tells_of_the_picture_alone_and_it_stays_small() -> None:
    flat = Image.new("RGB", (400, 400))
    data = file(flat, "TIFF", compression="tiff_deflate", icc_profile=srgb_bytes())
    decoded = decode(data)
    assert len(encode(decoded, decoded.pixels)) < 2 * len(data.getvalue())
    assert dict(Image.open(BytesIO(encode(decoded, decoded.pixels, Encoding("JPEG")))).getexif()) == {}


def test_xmp_that_does_not_end_takes_no_time() -> None:
    endless = ULTRA_HDR.replace(b"</rdf:Description>", b"<hdrgm:a>" * 30_000 + b"</rdf:Description>")
    begun = process_time()
    decoded = decode(file(picture(), "WEBP", xmp=endless))
    assert process_time() - begun < 2
    assert decoded.notes == ["its XMP, which is broken, and its HDR gain map left out"]


def test_xmp_that_no_jpeg_can_hold_does_not_stop_it() -> None:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode() + " " * 70000)
    decoded = decode(file(picture(), "PNG", pnginfo=info))
    assert Image.open(BytesIO(encode(decoded, decoded.pixels, Encoding("JPEG")))).format == "JPEG"
    assert left_out(decoded.metadata, "JPEG") == ["XMP"]
    assert np.array_equal(np.asarray(again(decoded)), decoded.pixels)


def test_a_profile_is_the_same_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file(picture(), "PNG", icc_profile=srgb_bytes())
    first = encode(decode(data), decode(data).pixels)
    profile = bytearray(srgb_profile().tobytes())
    profile[24:36] = bytes(12)  # as it is made at another time
    monkeypatch.setattr(metadata, "srgb_profile", lambda: ImageCms.ImageCmsProfile(BytesIO(profile)))
    srgb_bytes.cache_clear()
    assert encode(decode(data), decode(data).pixels) == first


def test_megabytes_of_xmp_are_left_out_and_said() -> None:
    xmp = XMP + b" " * metadata.XMP_MOST
    written, notes = enhanced(file(picture(), "WEBP", xmp=xmp).getvalue())
    assert notes == ["its 4 MB of XMP left out"]
    assert len(written) < 1_000_000
    assert enhanced(file(picture(), "WEBP", xmp=xmp[: metadata.XMP_MOST]).getvalue())[1] == []
