"""Faces alone: a mask of them, soft where the image has no edge, outside of which every pixel stays as it was.

A head changes the tone of a whole picture a little, walls too, so that a mask which merely fades out in the background
draws a halo around the head. This one is the solution of Laplace's equation on the graph of pixels (random walker,
Grady 2006): 1 on an egg from hair line to chin and on the throat, 0 beyond the same enlarged, and between them it falls
where the image itself has an edge, along hair, jaw and collar, or evenly where it has none.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from undistill.faces import Face, load_detector
from undistill.images import ImageError, Pixels

Where = Literal["all", "face"]
NoFace = Literal["whole", "keep", "fail"]
"""What to do with an image without a face: enhance all of it, keep it as it is, or raise."""
FEATHER = 0.2

FOUND_AT = 640
"""Longer side at which faces are looked for, px, if the image is larger: those of 1/8 of it are found."""

# In distances between the eyes: the egg that is surely face, from hair line to chin; the throat, which must have the
# face's tone; the height of a face.
_WIDE, _HIGH, _LOW, _TAPER = 1.0, 1.67, 0.08, 0.25
_THROAT, _THROAT_WIDE, _THROAT_HIGH = 1.6, 0.55, 0.75
_FACE = 3.0
_UNIT = 24  # pixels between the eyes where the mask is computed
_EDGE = 0.06  # a step in colour (of 1) that holds the mask up; noise and skin have smaller ones
_LEAK = 1e-4  # how well it passes any edge: without it a region that edges enclose has no solution

Mask = NDArray[np.float32]
"""(H, W) in [0, 1]."""


Landmarks = NDArray[np.float64]
"""(5, 2) of a face, x and y in px: the corners of both eyes, two and two, and where the nose ends."""


@cache
def _detector() -> Callable[[Pixels], list[Face]]:
    return load_detector()


def find_faces(pixels: Pixels) -> list[Landmarks]:
    """The faces of (H, W, 3) uint8, the largest first; several threads may call it at once.

    Raises:
        Failure: dlib or its models are not installed.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, FOUND_AT / max(height, width))
    small = pixels
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    found = _detector()(small)
    return [_landmarks(face) * (width / face.pixels.shape[1], height / face.pixels.shape[0]) for face in found]


def _landmarks(face: Face) -> Landmarks:
    return np.array([(point.x, point.y) for point in face.landmarks.parts()], float)


def mask_of(pixels: Pixels, faces: Sequence[Landmarks], feather: float = FEATHER) -> Mask:
    """A soft mask of all these faces.

    Args:
        feather: how far beyond the face the mask may end, in heights of the face; 0: at once.
    """
    mask = np.zeros(pixels.shape[:2], np.float32)
    for face in faces:
        _add_face(mask, pixels, face, feather)
    return mask


def box_of(face: Landmarks) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a square around a head, px; it may reach beyond the image."""
    centre, unit, _, _ = _pose(face)
    (x, y), reach = centre, _HIGH * unit
    return x - reach, y - reach, x + reach, y + reach


def _pose(face: Landmarks) -> tuple[NDArray[np.float64], float, NDArray[np.float64], NDArray[np.float64]]:
    """Centre of the egg that is surely face, distance between its eyes, and what is across and down in it."""
    one, other, nose = face[:2].mean(0), face[2:4].mean(0), face[4]
    eyes = (one + other) / 2
    apart = float(np.linalg.norm(other - one))
    across = (other - one) / max(apart, 1e-9)
    down = np.array([-across[1], across[0]])
    if down @ (nose - eyes) < 0:
        down = -down
    # In a head that is turned the eyes lie nearer together, in one that nods nearer to the nose: not both.
    unit = max(apart, 1.3 * float(np.linalg.norm(nose - eyes)))
    sideways = (nose - eyes) @ across  # the nose sticks out, the head doesn't
    return eyes + _LOW * unit * down - 0.5 * sideways * across, unit, across, down


def _add_face(mask: Mask, pixels: Pixels, face: Landmarks, feather: float) -> None:
    centre, unit, across, down = _pose(face)
    if not across.any():  # no face has its eyes in one place
        return
    fade = feather * _FACE * unit

    reach = (_THROAT + _THROAT_HIGH + 2 / _UNIT) * unit + fade
    height, width = mask.shape
    left, top = (max(0, int(place - reach)) for place in centre)
    right, bottom = min(width, int(centre[0] + reach) + 1), min(height, int(centre[1] + reach) + 1)
    if right <= left or bottom <= top:
        return
    size = max(2, round((right - left) * _UNIT / unit)), max(2, round((bottom - top) * _UNIT / unit))
    small = Image.fromarray(pixels[top:bottom, left:right]).resize(size, Image.Resampling.BOX)
    x = left + (np.arange(size[0]) + 0.5) / size[0] * (right - left) - centre[0]
    y = top + (np.arange(size[1]) + 0.5) / size[1] * (bottom - top) - centre[1]
    sideways = x * across[0] + y[:, None] * across[1]
    below = x * down[0] + y[:, None] * down[1]

    def head(more: float) -> NDArray[np.float64]:
        v = below / (_HIGH * unit + more)
        narrow = 1 - _TAPER * np.clip(v, 0, 1) ** 2
        egg = np.hypot(sideways / ((_WIDE * unit + more) * narrow), v)
        wide, high = _THROAT_WIDE * unit + more, _THROAT_HIGH * unit + more
        return np.asarray(np.minimum(egg, np.hypot(sideways / wide, (below - _THROAT * unit) / high)))

    solved = _solved(np.asarray(small), head(0) <= 1, head(fade) >= 1)
    soft = Image.fromarray((solved * solved * (3 - 2 * solved)).astype(np.float32))
    part = mask[top:bottom, left:right]
    fitted = np.asarray(soft.resize((right - left, bottom - top), Image.Resampling.BILINEAR))
    np.maximum(part, fitted.clip(0, 1), out=part)


def _solved(pixels: Pixels, face: NDArray[np.bool_], beyond: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(H, W): 1 on the face, 0 beyond, and elsewhere the mean of its neighbours, weighted by how alike they look."""
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    values = face.astype(float)
    free = ~(face | beyond)
    if not free.any():
        return values
    colour = pixels.astype(float) / 255
    place = np.arange(face.size).reshape(face.shape)
    pairs, alike = [], []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        pairs.append(np.stack([place[one].ravel(), place[other].ravel()]))
        step = np.square(colour[one] - colour[other]).sum(-1).ravel()
        alike.append(np.exp(-step / _EDGE**2) + _LEAK)
    (row, column), weight = np.concatenate(pairs, axis=1), np.concatenate(alike)
    graph = sparse.coo_matrix((weight, (row, column)), (face.size, face.size))
    graph = (graph + graph.T).tocsr()
    inner = free.ravel()
    laplacian = (sparse.diags(np.asarray(graph.sum(1)).ravel()) - graph)[inner][:, inner]
    values[free] = spsolve(laplacian.tocsc(), graph[inner] @ values.ravel())
    return values.clip(0, 1)


def masks_of(images: Tensor, feather: float, no_face: NoFace) -> Tensor:
    """(N, 1, H, W) in [0, 1]: the masks of the faces in images, (N, 3, H, W), uint8 or float in [0, 1].

    Raises:
        ImageError: an image has no face, and that was to fail.
        Failure: dlib or its models are not installed.
    """
    eights = images if images.dtype == torch.uint8 else (images.float() * 255).round().byte()
    masks = []
    for pixels in eights.movedim(1, -1).contiguous().cpu().numpy():
        faces = find_faces(pixels)
        if not faces and no_face == "fail":
            raise ImageError("shows no face")
        every = np.ones if no_face == "whole" else np.zeros
        masks.append(mask_of(pixels, faces, feather) if faces else every(pixels.shape[:2], np.float32))
    return torch.from_numpy(np.stack(masks))[:, None]


def given_masks(mask: "NDArray[Any] | Tensor", shape: tuple[int, ...]) -> Tensor:
    """(N or 1, 1, H, W) in [0, 1] of a mask that a caller gives for images of `shape`, (N, 3, H, W).

    Args:
        mask: (H, W), or (N, H, W): bool, uint8, or float in [0, 1].

    Raises:
        ValueError: shape, dtype or range is none of these.
    """
    given = torch.from_numpy(np.require(mask, requirements=["C", "W"])) if isinstance(mask, np.ndarray) else mask
    count, _, height, width = shape
    if tuple(given.shape) not in ((height, width), (count, height, width)):
        raise ValueError(f"a mask of shape {tuple(given.shape)}: take ({height}, {width}), or one for each image")
    if given.dtype not in (torch.bool, torch.uint8) and not given.is_floating_point():
        raise ValueError(f"a mask of {given.dtype}: take bool, uint8, or float in [0, 1]")
    masks = given.float() / 255 if given.dtype == torch.uint8 else given.float()
    if not bool(((masks >= 0) & (masks <= 1)).all()):
        raise ValueError("a mask of floats goes from 0 to 1")
    return masks.reshape(-1, 1, height, width)


def blended(original: Tensor, enhanced: Tensor, masks: Tensor) -> Tensor:
    """`enhanced` where the mask is 1, `original`, bit for bit, where it is 0; all (N, ., H, W)."""
    masks = masks.to(original.device)
    result = original.clone()
    for image, other, mask in zip(result, enhanced, masks.expand(len(original), -1, -1, -1), strict=True):
        # One image at a time, and only the rows that the mask touches, as floats.
        rows = mask.amax((0, 2)).nonzero().flatten()
        if not len(rows):
            continue
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        mixed = torch.lerp(image[:, span].float(), other[:, span].float(), mask[:, span])
        if original.dtype == torch.uint8:
            mixed = mixed.round()
        image[:, span] = torch.where(mask[:, span] > 0, mixed.to(original.dtype), image[:, span])
    return result
