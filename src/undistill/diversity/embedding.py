"""How far apart faces are: mean distance, the nearest pairs, and a map."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undistill.base.errors import Failure, UsageError
from undistill.diversity.deepface import load_arcface
from undistill.metrics.extraction import Extractor, Features
from undistill.metrics.faces import load_faces
from undistill.metrics.jackknife import Vector

PERPLEXITY = 30
"""Of t-SNE: about how many neighbours a face has; a third of the faces where there are few."""
FEWEST_FACES = 10
"""Faces for a map."""
_BLOCK = 1024

EMBEDDINGS: Mapping[str, Callable[[], Extractor]] = {"dlib": load_faces, "arcface": load_arcface}


def load_embedding(name: str) -> Extractor:
    """An extractor of the embedding of an image's largest face, length 1: (1, D), or (0, D) without a face.

    Args:
        name: `dlib`, 128-d; `arcface`, 512-d, by deepface, which downloads its weights when they are not there.

    Raises:
        UsageError: no embedding has this name.
        Failure: what it needs is not installed, or its weights can't be had.
    """
    if name not in EMBEDDINGS:
        raise UsageError(f"embedding {name!r}: take one of {', '.join(EMBEDDINGS)}")
    return EMBEDDINGS[name]()


def mean_distance(faces: Features, groups: Sequence[int], count: int) -> Vector:
    """(count + 1,): the mean of 1 - cosine over all pairs, and without each group, for `interval`; nan below two faces.

    The cosines of all pairs of n vectors of length 1 add up to (|sum|² - n) / 2.

    Args:
        faces: (n, D), length 1.
        groups: for each, which of `count` groups it is left out with.
    """
    sums, sizes = np.zeros((count, faces.shape[1])), np.zeros(count)
    np.add.at(sums, groups, faces.astype(np.float64))
    np.add.at(sizes, groups, 1)
    total = np.concatenate([sums.sum(0)[None], sums.sum(0) - sums])
    n = np.concatenate([[sizes.sum()], sizes.sum() - sizes])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(n > 1, 1 - (np.square(total).sum(1) - n) / (n * (n - 1)), np.nan))


@dataclass(frozen=True)
class FacePair:
    """Two faces, by their places, and 1 - cosine between them."""

    one: int
    other: int
    distance: float


def nearest_pairs(faces: Features, count: int) -> list[FacePair]:
    """The pairs of faces that are most alike, the nearest first.

    Args:
        faces: (n, D), length 1.
    """
    best: list[FacePair] = []
    for start in range(0, len(faces), _BLOCK):
        distances = 1 - faces[start : start + _BLOCK] @ faces[start:].T
        distances[np.tril_indices_from(distances)] = np.inf  # itself, and pairs that were seen from the other side
        flat = distances.ravel()
        few = np.argpartition(flat, min(count, flat.size) - 1)[:count]
        rows, columns = np.unravel_index(few, distances.shape)
        found = zip((start + rows).tolist(), (start + columns).tolist(), flat[few].tolist(), strict=True)
        best += [FacePair(*pair) for pair in found if np.isfinite(pair[2])]
    return sorted(best, key=lambda near: (near.distance, near.one, near.other))[:count]


def perplexity(count: int) -> float:
    """Of a map of so many faces."""
    return min(PERPLEXITY, (count - 1) / 3)


def map_faces(faces: Features, seed: int) -> NDArray[np.float64]:
    """(n, 2): t-SNE (van der Maaten & Hinton 2008) by openTSNE; the same for the same seed.

    Args:
        faces: (n, D), length 1; at least FEWEST_FACES.

    Raises:
        Failure: openTSNE is not installed.
    """
    try:
        from openTSNE import TSNE
    except ImportError as error:
        raise Failure("the map of faces needs openTSNE: pip install 'undistill[diversity]'") from error
    tsne = TSNE(perplexity=perplexity(len(faces)), metric="cosine", neighbors="exact", n_jobs=1, random_state=seed)
    return np.asarray(tsne.fit(faces))
