"""The same person: strength is lowered until dlib's face embedding stays near that of the picture before."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from undistill.enhance.faces import Landmarks
from undistill.faces import models
from undistill.images import Pixels
from undistill.metrics.face_embedding import PADDING, SIDE, FaceEmbedding, load_face_embedding

STEP = 0.01
"""Strengths that are tried are multiples of it, below the one that was asked for."""


@dataclass(frozen=True)
class Kept:
    """A strength that keeps people what they were.

    Args:
        strength: the largest found; 0: no change is small enough.
        identity: at this strength, the smallest cosine of a face's embeddings before and after.
        before: the same at the strength that was asked for.
    """

    strength: float
    identity: float
    before: float


@cache
def _network() -> FaceEmbedding:
    return load_face_embedding(models() / "dlib_face_recognition_resnet_model_v1.dat")


@torch.inference_mode()
def embeddings(pixels: Pixels, faces: Sequence[Landmarks]) -> NDArray[np.float32]:
    """(number of faces, 128), length 1: see `undistill.metrics.face_embedding`.

    Raises:
        Failure: dlib or its models are not installed.
    """
    network = _network()
    import dlib

    # A chip is cut by the landmarks alone; the box is there for the form.
    placed = [
        dlib.full_object_detection(dlib.rectangle(0, 0, 1, 1), [dlib.point(round(x), round(y)) for x, y in face])
        for face in faces
    ]
    chips = [dlib.get_face_chip(np.ascontiguousarray(pixels), face, size=SIDE, padding=PADDING) for face in placed]
    x = torch.from_numpy(np.stack(chips)).movedim(-1, 1).float()
    return functional.normalize(network(x)).numpy()


def keep_identity(
    pixels: Pixels,
    enhanced: Pixels,
    faces: Sequence[Landmarks],
    strength: float,
    least: float,
) -> Kept:
    """The largest strength up to `strength` at which all faces stay as near to themselves as `least`.

    Faces are looked for once: a head moves none. Between 0 and `strength` the picture is a straight line, so that the
    head runs once for all that are tried.

    Args:
        enhanced: at `strength`.
        faces: of `pixels`, at least one.
        least: cosine of embeddings, 0 to 1.

    Raises:
        Failure: dlib or its models are not installed.
    """
    own = embeddings(pixels, faces)

    def identity(part: float) -> float:
        mixed = np.rint(pixels + np.float32(part) * (enhanced.astype(np.float32) - pixels)).astype(np.uint8)
        return float((own * embeddings(mixed, faces)).sum(1).min())

    before = identity(1.0)
    if before >= least:
        return Kept(strength, before, before)
    low, high = 0, ceil(strength / STEP - 1e-9)  # a multiple that holds (0 does), and one that doesn't
    kept = 1.0
    while high - low > 1:
        middle = (low + high) // 2
        found = identity(middle * STEP / strength)
        if found >= least:
            low, kept = middle, found
        else:
            high = middle
    return Kept(round(low * STEP, 2), kept, before)
