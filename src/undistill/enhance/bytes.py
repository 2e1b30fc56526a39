"""Enhance a file's bytes: what a file on the disk, a pipe and a request to the service have in common."""

from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np

from undistill.enhance.change import Change, Run, changed
from undistill.enhance.faces import Mask
from undistill.enhance.provenance import Label, marked, source_type
from undistill.images import Encoding, ImageError, Picture, check_encoding, decode, encode, left_out
from undistill.images.metadata import SIGNED


@dataclass(frozen=True)
class Enhanced:
    """A file that was made.

    Args:
        data: its bytes.
        format: Pillow's name of its format.
        strength: that was used: 0 where nothing was to be done.
        notes: what was changed or left out on the way, in words.
    """

    data: bytes
    format: str
    strength: float
    notes: list[str]


def enhance_bytes(
    data: bytes,
    run: Run,
    wanted: Change,
    how: Encoding,
    same_kind: bool = True,
    label: Label | None = None,
    mask: bytes | None = None,
) -> Enhanced:
    """The file that is made of a file.

    Args:
        run: an `Enhancer`, or what stands for one; it isn't called where nothing is to be done.
        wanted: what is done to the pixels. Where nothing is, and the file is to stay of its format, its bytes stay.
        how: how it is written.
        same_kind: the name (or what else says the format) stays as it is: no GIF becomes a PNG.
        label: what it is to say of how it was made; None: nothing.
        mask: a file of the picture's size, white where it is to change.

    Raises:
        ImageError: it can't be read, or not be written so; or see `changed`.
        UsageError: the head can't be used.
        Failure: dlib, which finds faces, is not installed.
    """
    picture = decode(BytesIO(data))
    format = how.format or picture.format
    check_encoding(picture, replace(how, format=format))
    area = None if mask is None else _fits(mask, picture)
    done = changed(picture.pixels, run, wanted, area)
    if done.strength == 0 and same_kind and format == picture.format and how == Encoding(how.format):
        return Enhanced(data, format, 0, list(done.notes))
    notes = picture.notes
    source = source_type(picture.metadata, label) if label else ""
    if label and done.strength:
        picture.metadata = marked(picture.metadata, format, label, done.strength, notes)
    result = encode(picture, done.pixels, replace(how, format=format))
    if label and label.credentials and done.strength:
        from undistill.enhance.credentials import signed

        result = signed(result, format, data, source, label.credentials)
        notes = [note for note in notes if note != SIGNED]  # it is the ingredient now
    notes = [*done.notes, *notes, *(f"{what} left out" for what in left_out(picture.metadata, format))]
    return Enhanced(result, format, done.strength, notes)


def _fits(mask: bytes, picture: Picture) -> Mask:
    try:
        light = decode(BytesIO(mask)).pixels
    except ImageError as error:
        raise ImageError(f"has a mask that {error}") from error
    if light.shape != picture.pixels.shape:
        sizes = [f"{shape[1]} x {shape[0]}" for shape in (light.shape, picture.pixels.shape)]
        raise ImageError(f"has a mask of {sizes[0]} px, and is upright {sizes[1]} px: they must be alike")
    return np.asarray(light.astype(np.float32).mean(-1) / 255)
