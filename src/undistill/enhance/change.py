"""What is done to one picture's pixels, and what there is to say of it: for files, a service and a pipe alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from undistill.enhance.faces import FEATHER, Landmarks, Mask, NoFace, Where, blended, find_faces, mask_of
from undistill.images import ImageError, Pixels

Run = Callable[[Pixels, float], Pixels]
"""An `Enhancer`, or what enhances (H, W, 3) uint8 with a strength as it does."""


@dataclass(frozen=True)
class Change:
    """What is wanted.

    Args:
        strength: 0 (nothing changes) to 1.
        where: all of the picture, or faces alone.
        feather: see `Enhancer`.
        no_face: what becomes of a picture without a face, where faces are wanted.
        keep_identity: strength is lowered until every face's embedding stays as near to itself as this cosine.
    """

    strength: float = 1.0
    where: Where = "all"
    feather: float = FEATHER
    no_face: NoFace = "whole"
    keep_identity: float | None = None

    @property
    def finds_faces(self) -> bool:
        """Whether it needs the extra `faces`, unless a picture has a mask of its own."""
        return self.where == "face" or self.keep_identity is not None

    def told(self) -> dict[str, Any]:
        """For a record: what differs from how it is unless told, and counts."""
        told: dict[str, Any] = {"strength": self.strength}
        if self.where == "face":
            told |= {"where": self.where, "feather": self.feather, "no_face": self.no_face}
        if self.keep_identity is not None:
            told["keep_identity"] = self.keep_identity
        return told


@dataclass(frozen=True)
class Changed:
    """What became of it.

    Args:
        strength: that was used; 0: no pixel has changed.
        notes: what the user should know, in words.
    """

    pixels: Pixels
    strength: float
    notes: Sequence[str] = ()


def changed(pixels: Pixels, run: Run, wanted: Change, mask: Mask | None = None) -> Changed:
    """A picture's pixels, (H, W, 3) uint8, enhanced as it is wanted. Its faces are found once.

    Args:
        run: an `Enhancer`, or what stands for one.
        mask: the user's own, (H, W) in [0, 1], instead of faces.

    Raises:
        ImageError: it shows no face, and that was to fail.
        Failure: dlib, which finds faces, is not installed.
    """
    if wanted.strength == 0:
        return Changed(pixels, 0)
    alone = wanted.where == "face" and mask is None
    faces_wanted = alone or wanted.keep_identity is not None
    faces = find_faces(pixels) if faces_wanted else []
    if alone and not faces:
        if wanted.no_face == "fail":
            raise ImageError("shows no face (--no-face keep or whole goes on)")
        if wanted.no_face == "keep":
            return Changed(pixels, 0, ["no face found: kept as it is"])
    if alone and faces:
        mask = mask_of(pixels, faces, wanted.feather)
    if mask is not None and not mask.any():
        return Changed(pixels, 0, ["its mask is empty: kept as it is"])

    def at(strength: float) -> Pixels:
        return run(pixels, strength) if mask is None else _within(mask, pixels, run(pixels, strength))

    if faces and wanted.keep_identity is not None:
        return _kept(pixels, at, faces, wanted)
    what = "all of it enhanced" if mask is None else "enhanced within its mask"
    notes = [f"no face found: {what}"] if faces_wanted and not faces else []
    return Changed(at(wanted.strength), wanted.strength, notes)


def _within(mask: Mask, pixels: Pixels, enhanced: Pixels) -> Pixels:
    before, after = (torch.from_numpy(np.array(each)).movedim(-1, 0)[None] for each in (pixels, enhanced))
    return blended(before, after, torch.from_numpy(mask)[None, None])[0].movedim(0, -1).numpy()


def _kept(pixels: Pixels, at: Callable[[float], Pixels], faces: Sequence[Landmarks], wanted: Change) -> Changed:
    from undistill.enhance.identity import keep_identity

    assert wanted.keep_identity is not None
    most = at(wanted.strength)
    kept = keep_identity(pixels, most, faces, wanted.strength, wanted.keep_identity)
    if kept.strength == wanted.strength:
        return Changed(most, wanted.strength)
    note = f"strength {kept.strength:g}, for an identity of {kept.identity:.4f} instead of {kept.before:.4f}"
    return Changed(at(kept.strength) if kept.strength else pixels, kept.strength, [note])
