"""A file is like the one before it, but for what is asked."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from tests.images.test_read import file, picture
from undistill.base.files import SAMPLES
from undistill.images import Encoding, ImageError, Picture, decode, encode, png


def written(data: BytesIO, how: Encoding | None = None, tint: bool = False) -> Image.Image:
    decoded = decode(data)
    pixels = decoded.pixels // 2 + np.array([9, 0, 0], np.uint8) * tint
    image = Image.open(BytesIO(encode(decoded, pixels, how)))
    image.load()
    return image


def test_a_webp_without_loss_stays_one() -> None:
    data = file(picture(), "WEBP", lossless=True)
    half = decode(data).pixels // 2
    assert np.array_equal(np.asarray(written(data)), half)
    lossy = decode(file(picture(), "WEBP", quality=60))
    assert not lossy.lossless
    for how, exact in ((Encoding(quality=90), False), (Encoding(lossless=True), True)):
        assert np.array_equal(np.asarray(written(data, how)), half) == exact
    with_alpha = file(picture(mode="RGBA"), "WEBP", lossless=True)
    assert decode(with_alpha).lossless


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_stays_grey_unless_colour_is_asked_for(format: str, mode: str) -> None:
    try:
        data = file(picture(mode=mode), format)
    except OSError:
        return  # a mode that this format does not know
    assert decode(data).notes == []
    assert written(data, tint=True).mode == ("LA" if mode == "LA" else "L")
    coloured = written(data, Encoding(colour=True), tint=True)
    assert coloured.mode == ("RGBA" if mode == "LA" else "RGB")
    assert np.asarray(coloured)[..., 0].mean() > np.asarray(coloured)[..., 1].mean() + 4


def test_deep_grey_is_grey() -> None:
    deep = Image.fromarray((np.linspace(0, 65535, 256)).astype(np.uint16).reshape(16, 16))
    assert written(file(deep, "PNG")).mode == "L"


@pytest.mark.parametrize("format", ["BMP", "GIF"])
def test_bmp_and_still_gif_become_png(format: str) -> None:
    data = file(picture(), format)
    decoded = decode(data)
    assert decoded.notes[-1] == f"{format} written as PNG"
    assert written(data).format == "PNG"
    frames = [picture(seed=seed) for seed in range(3)]
    with pytest.raises(ImageError, match="3 frames or pages"):
        decode(file(frames[0], "GIF", save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", *(["AVIF"] if features.check("avif") else [])])
def test_another_format(format: str) -> None:
    exif = Image.Exif()
    exif[0x013B] = "Ada Okafor"
    for before in ("PNG", "JPEG", "TIFF", "WEBP", *(["AVIF"] if features.check("avif") else [])):
        data = file(picture((40, 40)), before, exif=exif)
        image = written(data, Encoding(format))
        assert image.format == format
        assert image.getexif()[0x013B] == "Ada Okafor"


def test_quality_is_heeded() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for format in ("JPEG", "WEBP"):
        decoded = decode(file(noise, format))
        sizes = [len(encode(decoded, decoded.pixels, Encoding(quality=quality))) for quality in (30, 95)]
        assert sizes[0] < sizes[1] == len(encode(decoded, decoded.pixels))


@pytest.mark.parametrize(
    ("mode", "how", "message"),
    [
        ("RGBA", Encoding("JPEG"), "transparency, which JPEG can't hold"),
        ("RGB", Encoding("JPEG", lossless=True), "can't be written as JPEG without loss"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(mode: str, how: Encoding, message: str) -> None:
    image = picture(mode=mode)
    if mode == "RGBA":
        image.putalpha(100)
    decoded: Any = decode(file(image, "PNG"))
    with pytest.raises(ImageError, match=message):
        encode(decoded, decoded.pixels, how)


def test_transparency_that_hides_nothing_is_none() -> None:
    decoded = decode(file(picture(mode="RGBA"), "PNG"))
    assert Image.open(BytesIO(encode(decoded, decoded.pixels, Encoding("JPEG")))).mode == "RGB"


def test_a_portraits_png_is_hardly_larger_than_pillows() -> None:
    pixels = decode(SAMPLES / "schnell-000009-doctor.webp").pixels
    slow = file(Image.fromarray(pixels), "PNG").getbuffer()
    made = png(pixels)
    assert made == encode(Picture(pixels, None, "PNG"), pixels)
    assert len(made) < 1.1 * len(slow)
    assert np.array_equal(np.asarray(Image.open(BytesIO(made))), pixels)
