"""Pictures of a page: embedded, so that the page is one file; and a strip of them as a PNG."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from undistill.atomic import replacing
from undistill.images import decode_rgb
from undistill.prompts import Prompt

SIDES = ("student", "enhanced", "teacher")
SHOWN = 256
"""Larger images are shown at this side, px: a page of FLUX's own sizes would be too large to send."""


@dataclass(frozen=True)
class Triple:
    """One person three times: PNGs."""

    name: str
    student: bytes
    enhanced: bytes
    teacher: bytes


def triples(prompts: Sequence[Prompt], folder: Path) -> list[Triple]:
    """The images of the prompts: folder/SIDE/ID.png."""
    return [
        Triple(prompt.name or prompt.prompt, *((folder / side / f"{prompt.id}.png").read_bytes() for side in SIDES))
        for prompt in prompts
    ]


def data_uri(image: bytes) -> str:
    """A PNG as a data URI, without the text in its file."""
    buffer = BytesIO()
    _small(image).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


def write_strip(shown: Sequence[Triple], path: Path, side: int = 128, gap: int = 4) -> None:
    """A column for each triple, a row for each side, with the row's word before it.

    Args:
        side: of a picture, px.
        gap: between pictures, px.
    """
    font = ImageFont.load_default(18)
    margin = 12 + round(max(font.getlength(word) for word in SIDES)) + 12
    step = side + gap
    strip = Image.new("RGB", (margin + len(shown) * step - gap, len(SIDES) * step - gap), "white")
    draw = ImageDraw.Draw(strip)
    for row, word in enumerate(SIDES):
        draw.text((margin - 12, row * step + side / 2), word, "#555", font, anchor="rm")
        for column, triple in enumerate(shown):
            picture = Image.fromarray(decode_rgb(getattr(triple, word)))
            strip.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (margin + column * step, row * step))
    with replacing(path) as beside:
        strip.save(beside, "PNG", optimize=True)


def _small(png: bytes) -> Image.Image:
    image = Image.fromarray(decode_rgb(png))
    image.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return image
