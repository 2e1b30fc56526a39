"""Enhance a file's bytes: what a file on the disk and a request to the service have in common."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO

from undistill.images import Encoding, Pixels, check_encoding, decode, encode, left_out

Run = Callable[[Pixels, float], Pixels]
"""An `Enhancer`, or what enhances (H, W, 3) uint8 with a strength as it does."""


@dataclass(frozen=True)
class Enhanced:
    """A file that was made.

    Args:
        data: its bytes.
        format: Pillow's name of its format.
        notes: what was changed or left out on the way, in words.
    """

    data: bytes
    format: str
    notes: list[str]


def enhance_bytes(
    data: bytes, enhancer: Callable[[], Run], strength: float, how: Encoding, same_kind: bool
) -> Enhanced:
    """The file that is made of a file.

    Args:
        enhancer: gives the enhancer; it isn't asked where nothing is to be done.
        strength: see `Enhancer`; at 0, where the file is to stay of its format, its bytes stay as well.
        how: how it is written.
        same_kind: the name (or what else says the format) stays as it is: no GIF becomes a PNG.

    Raises:
        ImageError: it can't be read, or not be written so.
        UsageError: the head can't be used.
    """
    picture = decode(BytesIO(data))
    format = how.format or picture.format
    check_encoding(picture, replace(how, format=format))
    if strength == 0 and same_kind and format == picture.format and how == Encoding(how.format):
        return Enhanced(data, format, [])
    result = encode(picture, enhancer()(picture.pixels, strength), replace(how, format=format))
    return Enhanced(result, format, picture.notes + [f"{what} left out" for what in left_out(picture.metadata, format)])
