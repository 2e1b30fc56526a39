"""Pictures of a page: embedded, so that the page is one file; and a strip of them as a PNG."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from undistill.base.files import replacing
from undistill.images import Pixels, decode_rgb

if TYPE_CHECKING:
    from undistill.prompts import Prompt

TRIPLE_SIDES = ("student", "enhanced", "teacher")
SHOWN = 256
"""Larger images are shown at this side, px: a page of FLUX's own sizes would be too large to send."""
CLOSE = 448
"""Side of what is shown at 100%, px."""


@dataclass(frozen=True)
class Triple:
    """One person three times: PNGs."""

    name: str
    student: bytes
    enhanced: bytes
    teacher: bytes


@dataclass(frozen=True)
class BeforeAfter:
    """The middle of a portrait at 100%, as it was and enhanced: data URIs."""

    name: str
    student: str
    enhanced: str


def before_after(name: str, student: Pixels, enhanced: Pixels) -> BeforeAfter:
    """The `CLOSE` x `CLOSE` px above the middle, where a portrait's face is, of (H, W, 3) uint8 each.

    WebP of quality 90: as PNG the page would be ten times as large.
    """
    top, left = ((length - min(length, CLOSE)) // part for length, part in zip(student.shape, (5, 2), strict=False))
    uris = []
    for pixels in (student, enhanced):
        buffer = BytesIO()
        Image.fromarray(pixels[top : top + CLOSE, left : left + CLOSE]).save(buffer, "WEBP", quality=90)
        uris.append(f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}")
    return BeforeAfter(name, *uris)


def triples(prompts: Sequence["Prompt"], folder: Path) -> list[Triple]:
    """The images of the prompts: folder/SIDE/ID.png."""
    return [
        Triple(
            prompt.name or prompt.prompt, *((folder / side / f"{prompt.id}.png").read_bytes() for side in TRIPLE_SIDES)
        )
        for prompt in prompts
    ]


def data_uri(image: bytes) -> str:
    """A PNG as a data URI, without the text in its file."""
    buffer = BytesIO()
    _small(image).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


def embedded(path: Path) -> str:
    """An image file as a data URI, as it is."""
    return f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"


def write_strip(rows: Mapping[str, Sequence[bytes]], path: Path, side: int = 128, gap: int = 4) -> None:
    """Images in rows, each with a word before it.

    Args:
        rows: by word, as many images each.
        side: of a picture, px.
        gap: between pictures, px.
    """
    font = ImageFont.load_default(18)
    margin = 12 + round(max(font.getlength(word) for word in rows)) + 12
    step = side + gap
    strip = Image.new("RGB", (margin + max(map(len, rows.values())) * step - gap, len(rows) * step - gap), "white")
    draw = ImageDraw.Draw(strip)
    for row, (word, images) in enumerate(rows.items()):
        draw.text((margin - 12, row * step + side / 2), word, "#555", font, anchor="rm")
        for column, image in enumerate(images):
            picture = Image.fromarray(decode_rgb(image))
            strip.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (margin + column * step, row * step))
    with replacing(path) as beside:
        strip.save(beside, "PNG", optimize=True)


def _small(png: bytes) -> Image.Image:
    image = Image.fromarray(decode_rgb(png))
    image.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return image
