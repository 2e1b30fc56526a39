from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, features
from PIL.PngImagePlugin import PngInfo

from undistill.images import (
    FORMATS,
    ImageError,
    Picture,
    decode,
    decode_rgb,
    encode,
    format_of,
    list_images,
    read_rgb,
    size_of,
    to_tensor,
    upright,
)

WRITABLE = ["PNG", "JPEG", "WEBP", "TIFF"] + (["AVIF"] if features.check("avif") else [])


def picture(size: tuple[int, int] = (23, 17), mode: str = "RGB", seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def file(image: Image.Image, format: str, **options: Any) -> BytesIO:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return BytesIO(buffer.getvalue())


def again(decoded: Picture, pixels: np.ndarray[Any, np.dtype[np.uint8]] | None = None) -> Image.Image:
    image = Image.open(BytesIO(encode(decoded, decoded.pixels if pixels is None else pixels)))
    image.load()
    return image


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(WRITABLE),
    st.sampled_from(["RGB", "RGBA", "L", "LA", "1", "P", "CMYK"]),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_any_format_mode_and_size_goes_through(format: str, mode: str, width: int, height: int) -> None:
    image = picture((width, height), mode)
    try:
        data = file(image, format)
    except (OSError, KeyError):
        return  # a mode that this format does not know
    decoded = decode(data)
    assert np.array_equal(decode_rgb(data.getvalue()), decoded.pixels)
    assert format_of(data.getvalue()) == decoded.format
    assert decoded.pixels.shape == (height, width, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.format == format
    result = again(decoded)
    assert result.size == (width, height)
    assert result.format == format
    if format in ("PNG", "TIFF") and mode != "CMYK":
        assert np.array_equal(decoded.pixels, np.asarray(image.convert("RGBA").convert("RGB")))
        assert np.array_equal(np.asarray(result.convert("RGB")), decoded.pixels)


@pytest.mark.parametrize(("mode", "format", "note"), [("CMYK", "JPEG", "CMYK"), ("P", "PNG", "palette")])
def test_says_what_it_changed(mode: str, format: str, note: str) -> None:
    assert note in decode(file(picture(mode=mode), format)).notes[0]
    assert decode(file(picture(), "PNG")).notes == []


def test_16_bit_grey_keeps_its_light() -> None:
    deep = Image.fromarray((np.linspace(0, 65535, 256)).astype(np.uint16).reshape(16, 16))
    decoded = decode(file(deep, "PNG"))
    assert np.array_equal(decoded.pixels[..., 0].ravel(), np.arange(256))
    assert "16 bits reduced to 8" in decoded.notes


def test_16_bit_grey_with_a_transparent_value() -> None:
    deep = Image.fromarray(np.array([[0, 1000], [30000, 65535]], np.uint16))
    decoded = decode(file(deep, "PNG", transparency=1000))
    assert decoded.alpha is not None
    assert decoded.alpha.tolist() == [[255, 0], [255, 255]]


def test_16_bit_colour_is_said() -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">6H", 0, 32896, 65535, 257, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    decoded = decode(BytesIO(data))
    assert decoded.pixels.tolist() == [[[0, 128, 255], [1, 0, 0]]]
    assert decoded.notes == ["16 bits reduced to 8"]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_is_applied_and_reset(format: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "Ada Okafor"
    image = picture((30, 20))
    decoded = decode(file(image, format, exif=exif))
    assert decoded.pixels.shape == (30, 20, 3)
    if format in ("PNG", "TIFF"):
        assert np.array_equal(decoded.pixels, np.rot90(np.asarray(image), -1))
    result = again(decoded)
    assert result.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert result.getexif()[ExifTags.Base.Artist] == "Ada Okafor"
    assert result.size == (20, 30)


def test_what_is_upright_and_rgb_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(image: Image.Image, *_: object) -> Image.Image:
        raise AssertionError(f"{image.size} copied")

    for mode in ("RGB", "RGBA"):
        data = file(picture(mode=mode), "PNG")
        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "copy", copied)
            decoded = decode(data)
        assert np.array_equal(decoded.pixels, np.asarray(picture(mode=mode))[..., :3])
    image = picture()
    assert upright(image, [])[0] is not image  # who asks for an image of their own gets one


def test_tiff_keeps_its_exif_and_place() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2026:11:23 18:00:00"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    whole = Image.Exif()
    whole.load(exif.tobytes())
    result = again(decode(file(picture(), "TIFF", exif=whole))).getexif()
    assert result.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == "2026:11:23 18:00:00"
    assert result.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    assert result.get(ExifTags.Base.Orientation, 1) == 1


def test_png_orientation_in_a_text_is_applied_once() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "Ada Okafor"
    raw = exif.tobytes()
    old, xmp = PngInfo(), PngInfo()
    old.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n")
    xmp.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>')
    for chunks in (old, xmp):
        result = again(decode(file(picture((30, 20)), "PNG", pnginfo=chunks)))
        assert result.size == (20, 30)
        assert result.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert again(decode(file(picture(), "PNG", pnginfo=old))).getexif()[ExifTags.Base.Artist] == "Ada Okafor"


def test_pixels_alone_mind_what_stands_behind_them() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = file(picture((30, 20)), "PNG", exif=exif).getvalue()
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    moved = data.replace(chunk, b"").replace(data[-12:], chunk + data[-12:])
    assert data.index(b"eXIf") < data.index(b"IDAT") < moved.index(b"eXIf")
    for whole in (data, moved):
        assert np.array_equal(decode_rgb(whole), np.rot90(np.asarray(picture((30, 20))), -1))


@pytest.mark.parametrize("junk", [b"junk", b"Exif\0\0II*\0", b"Exif\0\0" + b"\xff" * 40])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_exif_that_cannot_be_read_is_left_out(format: str, junk: bytes) -> None:
    decoded = decode(file(picture(), format, exif=junk))
    assert again(decoded).size == picture().size


def test_png_text_is_kept() -> None:
    chunks = PngInfo()
    chunks.add_text("parameters", "A professional portrait of Ada Okafor\nSteps: 4")
    chunks.add_itxt("prompt", '{"text": "肖像"}', "zh", "提示")
    result = again(decode(file(picture(), "PNG", pnginfo=chunks)))
    assert isinstance(result.info["parameters"], str)
    assert result.info["parameters"].startswith("A professional portrait")
    assert result.info["prompt"] == '{"text": "肖像"}'
    assert result.info["prompt"].lang == "zh"


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_carried_over(format: str) -> None:
    image = picture((20, 10), "RGBA")
    alpha = Image.fromarray(np.linspace(0, 255, 200).astype(np.uint8).reshape(10, 20))
    image.putalpha(alpha)
    decoded = decode(file(image, format, **({"lossless": True, "exact": True} if format == "WEBP" else {})))
    assert decoded.alpha is not None
    assert np.array_equal(decoded.alpha, np.asarray(alpha))
    result = again(decoded, np.zeros_like(decoded.pixels))
    assert np.array_equal(np.asarray(result.getchannel("A")), np.asarray(alpha))


def test_a_transparent_palette_keeps_its_hole() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 1), 1)
    decoded = decode(file(image, "PNG", transparency=1))
    assert decoded.alpha is not None
    assert (decoded.alpha == 0).sum() == 1


def test_a_profile_is_converted_and_replaced() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    image = picture()
    in_lab = ImageCms.profileToProfile(image, srgb, ImageCms.createProfile("LAB"), outputMode="LAB")
    assert in_lab is not None
    decoded = decode(file(in_lab, "TIFF", icc_profile=lab))
    assert np.abs(decoded.pixels.astype(int) - np.asarray(image)).mean() < 4
    result = again(decoded)
    assert result.mode == "RGB"
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(result.info["icc_profile"])))
    assert "sRGB" in name


def test_a_broken_profile_is_said_and_ignored() -> None:
    decoded = decode(file(picture(), "PNG", icc_profile=b"nonsense"))
    assert np.array_equal(decoded.pixels, np.asarray(picture()))
    assert "profile" in decoded.notes[0]


def test_jpeg_is_written_fine() -> None:
    result = again(decode(file(picture((64, 64)), "JPEG", quality=30)))
    assert [component[1:3] for component in result.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]  # 4:4:4
    assert max(result.quantization[0]) <= 12  # type: ignore[attr-defined]  # quality 95


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_animated_is_refused(format: str) -> None:
    frames = [picture(seed=seed) for seed in range(3)]
    with pytest.raises(ImageError, match="3 frames or pages"):
        decode(file(frames[0], format, save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_is_refused(mode: str) -> None:
    with pytest.raises(ImageError, match="32 bits"):
        decode(file(picture(mode="L").convert(mode), "TIFF"))


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(WRITABLE), st.data())
def test_broken_files_are_errors_of_one_line(format: str, data: st.DataObject) -> None:
    whole = file(picture(), format).getvalue()
    cut = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(max_size=8))
    message = ""
    try:
        decode(BytesIO(whole[:cut] + noise))
    except ImageError as error:  # any other exception fails the test
        message = str(error)
    assert "\n" not in message


def test_other_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image in a known format"):
        decode(file(picture(), "PPM"))
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ImageError, match=r"text\.png is no image"):
        read_rgb(tmp_path / "text.png")
    with pytest.raises(ImageError, match=r"gone\.png"):
        size_of(tmp_path / "gone.png")


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="too large"):
        decode(file(picture((40, 40)), "PNG"))


def test_lists_images_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/c.jpg", ".hidden/d.png", ".e.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == ["a/c.jpg", "b.PNG"]


def test_formats_are_what_pillow_calls_them() -> None:
    Image.init()
    assert set(WRITABLE) <= set(FORMATS)


def test_pixels_to_tensors() -> None:
    pixels = np.array([[[0, 51, 255], [255, 0, 102]]], np.uint8)  # one row of two
    one = to_tensor(pixels)
    assert one.shape == (3, 1, 2)
    assert one[:, 0].T.flatten().tolist() == pytest.approx([-1, -0.6, 1, 1, -1, -0.2], abs=1e-6)
    assert torch.equal(to_tensor(np.stack([pixels, pixels]))[1], one)
