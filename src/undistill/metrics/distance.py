"""Distances between sets of images: KID, FD, and the gap closed.

    gap closed = (D(student) - D(enhanced)) / (D(student) - D(teacher))

D(x) is the KID of x to the teacher's images of other prompts, for which D(teacher) is 0. The gap closed is 0 for what
is as far away as the student, 1 for what is as near as the teacher is to itself. How these choices were made:
docs/measure.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import combinations
from typing import Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from undistill.dataset.samples import Sample
from undistill.metrics.extraction import Features
from undistill.metrics.jackknife import Value, Vector, groups_of, interval
from undistill.metrics.whitening import DIMENSIONS, Float, Moments, Whitening

FEWEST = 4
"""Images a side from which on spaces can be cross-fitted: one a quarter."""
MEASURED = 8
"""Images a side from which on distances in these have intervals."""
_FD_GROUPS = 40
"""Of ids that FD's jackknife leaves out: each takes two eigenvalue problems."""
_ENTRIES = 2**23
"""Of a kernel matrix, at a time."""
_ROWS = 4000
"""Crops, at most, that the length outside of a projection is measured on."""

Kernel = Callable[[Features, Features], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Points:
    """A set of images: their ids, and features (n, crops, D) of their crops. Equal only to itself."""

    ids: Sequence[str]
    x: Features

    @classmethod
    def of(cls, samples: Sequence[Sample], features: Sequence[Features]) -> Self:
        """Features of images, (crops, D) each. Crops that are all the same, as those of small images, are kept once."""
        x = np.stack(features)
        return cls([sample.id for sample in samples], x[:, :1] if (x == x[:, :1]).all() else x)

    def only(self, keep: Callable[[str], bool]) -> "Points":
        places = [place for place, id in enumerate(self.ids) if keep(id)]
        return Points([self.ids[place] for place in places], self.x[places])


class Projection:
    """The leading principal components of features, and how far they lie outside these, all whitened: mean 0 and
    variance 1 over the crops of both sides.

    Texture moves features little, content much: without whitening the distance is between hair styles. And a change
    that neither student nor teacher know (a net, say) must not stay unseen: it shows in the last coordinate.

    Args:
        moments: of the crops that it is fitted on.
        rows: (m, D), some of these crops.
        images: that they come from. No more than one direction for two images: those of few images are their own.
        dimensions: at most.
    """

    def __init__(self, moments: Moments, rows: Features, images: int, dimensions: int = DIMENSIONS) -> None:
        self.whitening = Whitening(moments, min(dimensions, max(1, images // 2)))
        outside = self._outside(rows)
        self.mean_outside = outside.mean()
        self.spread: Float = np.append(self.whitening.spread, np.sqrt(outside.var() + self.whitening.ridge))
        """(d,) standard deviations before whitening."""

    def __call__(self, x: Features) -> Features:
        """(n, crops, D) to (n, crops, d)."""
        rows = x.reshape(-1, x.shape[-1])
        outside = (self._outside(rows) - self.mean_outside) / self.spread[-1]
        whitened = np.column_stack([self.whitening(rows), outside]).astype(np.float32)
        return whitened.reshape(*x.shape[:-1], -1)

    def _outside(self, rows: Features) -> Float:
        """Length of what the directions leave of each row."""
        centred = rows - self.whitening.mean
        squares = np.square(centred).sum(1) - np.square(centred @ self.whitening.directions).sum(1)
        length: Float = np.sqrt(squares.clip(0))
        return length


@dataclass(frozen=True, eq=False)
class Space:
    """Where sets of images are compared, and which ids are.

    What a projection was fitted on looks nearer in it than what it has never seen, so that an image that closes the
    whole gap would seem to open it. Therefore all sets must have been seen alike: none of the ids, or all the sets.

    Args:
        project: (n, crops, D) to (n, crops, d).
        spread: (d,) standard deviations before whitening; ones where nothing was whitened.
        ids: None: all.
    """

    project: Callable[[Features], Features]
    spread: Float
    ids: frozenset[str] | None = None

    def __call__(self, points: Points) -> Points:
        inside = points if self.ids is None else points.only(self.ids.__contains__)
        return Points(inside.ids, self.project(inside.x))


def fitted_on(*sets: Points, dimensions: int = DIMENSIONS) -> list[Space]:
    """One space for all ids, fitted on images of which none is measured, or on all the sets that are."""
    projection = _projection(sets, dimensions)
    return [Space(projection, projection.spread)]


def cross_fitted(student: Points, teacher: Points, dimensions: int = DIMENSIONS) -> list[Space]:
    """Six spaces for the images that they are fitted on: none of them is measured in what was fitted on it.

    Ids fall in quarters, alike on both sides; each two quarters are measured in the space of the other two. Distances
    are means over the six.

    Raises:
        ValueError: fewer than `FEWEST` images a side.
    """
    if min(len(student.ids), len(teacher.ids)) < FEWEST:
        raise ValueError(f"{len(student.ids)} and {len(teacher.ids)} images: cross-fitting needs {FEWEST} a side")
    quarter = quarters(student.ids, teacher.ids)
    ids = [frozenset(id for id, number in quarter.items() if number == k) for k in range(4)]
    parts = [[side.only(some.__contains__) for side in (student, teacher)] for some in ids]
    moments = [Moments.union(Moments.of(_rows(side)) for side in part) for part in parts]
    spaces = []
    for pair in combinations(range(4), 2):
        others = [k for k in range(4) if k not in pair]
        fitted = [side for k in others for side in parts[k]]
        projection = _projection(fitted, dimensions, Moments.union(moments[k] for k in others))
        spaces.append(Space(projection, projection.spread, ids[pair[0]] | ids[pair[1]]))
    return spaces


def fitted_on_others(student: Points, teacher: Points, part: Mapping[str, int]) -> list[Space]:
    """A space for each part of the ids, fitted on all the others.

    For heads that have seen all parts but one: what one of them has made is held against teacher images that it has
    never seen. Against all of them it would look nearer than it is, by what the other heads know of these.

    Args:
        part: by id, of both sides.

    Raises:
        ValueError: fewer than two images of a side in a part.
    """
    spaces = []
    for number in sorted(set(part.values())):
        inside = frozenset(id for id, own in part.items() if own == number)
        for side in (student, teacher):
            if sum(id in inside for id in side.ids) < 2:
                raise ValueError(f"part {number} has fewer than two images of a side")
        rest = part.keys() - inside
        others = [side.only(rest.__contains__) for side in (student, teacher)]
        projection = _projection(others, DIMENSIONS)
        spaces.append(Space(projection, projection.spread, inside))
    return spaces


def quarters(student: Iterable[str], teacher: Iterable[str]) -> dict[str, int]:
    """0 to 3 for each id, as evenly as can be on both sides, whichever ids they share."""
    first, second = set(student), set(teacher)
    shared = first & second
    counted = [(0, shared), (len(shared), first - shared), (len(shared), second - shared)]
    return {id: place % 4 for start, ids in counted for place, id in enumerate(sorted(ids, key=_shuffled), start)}


def _projection(fitted: Sequence[Points], dimensions: int, moments: Moments | None = None) -> Projection:
    rows = np.concatenate([_rows(points) for points in fitted])
    images = sum(len(points.ids) for points in fitted)
    return Projection(moments or Moments.of(rows), rows[:: -(-len(rows) // _ROWS)], images, dimensions)


def _rows(points: Points) -> Features:
    return points.x.reshape(-1, points.x.shape[-1])


def gaussian(a: Features, b: Features) -> NDArray[np.float32]:
    """exp(-|a - b|^2 / 4d), (n, d) and (m, d) to (n, m): the squared distance of two crops is 2d on average."""
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * (a @ b.T)
    kernel: NDArray[np.float32] = np.exp(-np.maximum(squares, 0) / (4 * a.shape[1]))
    return kernel


def cubic(a: Features, b: Features) -> NDArray[np.float32]:
    """(a . b / d + 1)^3, KID's kernel (Binkowski et al. 2018, eq. 4)."""
    kernel: NDArray[np.float32] = (a @ b.T / a.shape[1] + 1) ** 3
    return kernel


Placed = Sequence[Points]
"""A set in each of the spaces."""


class Gap:
    """Distances to one student and one teacher set, as vectors for intervals (jackknife.py): means over the spaces.

    Args:
        student, teacher: features.
        spaces: `cross_fitted` or `fitted_on`.
        kernel: of KID.
    """

    def __init__(self, student: Points, teacher: Points, spaces: Sequence[Space], kernel: Kernel = gaussian) -> None:
        self.spaces = spaces
        self.kernel = kernel
        self.groups = groups_of([*student.ids, *teacher.ids])
        self.count = max(self.groups.values()) + 1
        self.sides: dict[str, Placed] = {"student": self.place(student), "teacher": self.place(teacher)}
        # Found once for each set, as long as that is there.
        self._means: WeakKeyDictionary[Points, WeakKeyDictionary[Points, Vector]] = WeakKeyDictionary()
        self._fitted: WeakKeyDictionary[Points, Gaussians] = WeakKeyDictionary()

    def place(self, points: Points) -> Placed:
        """Features of a set whose ids are the student's or the teacher's, brought into the spaces."""
        return [space(points) for space in self.spaces]

    def kid(self, x: Placed, side: str | Placed) -> Vector:
        """Unbiased squared MMD (Gretton et al. 2012, eq. 3) of x to the student's, the teacher's or other images.

        An image's features are the set of its crops, the kernel of two images the mean over their crops. Images with
        one id are never compared, since what they share is the prompt: so D of a set to itself is 0.
        """
        return _mean(
            self._mean_kernel(a, a) + self._mean_kernel(b, b) - 2 * self._mean_kernel(a, b)
            for a, b in zip(x, self._other(side), strict=True)
        )

    def fd(self, x: Placed, side: str | Placed) -> Vector:
        """Fréchet distance of Gaussians (Dowson & Landau 1982) of all crops, before whitening, as FID is; its bias is
        not taken away."""
        return _mean(
            frechet(*(self._gaussians(points, space.spread) for points in (a, b)))
            for a, b, space in zip(x, self._other(side), self.spaces, strict=True)
        )

    def _other(self, side: str | Placed) -> Placed:
        return self.sides[side] if isinstance(side, str) else side

    def floor(self, side: str, distance: Callable[["Gap", Placed, str | Placed], Vector]) -> Vector:
        """The distance, `Gap.kid` or `Gap.fd`, of one half of a side to its other half."""
        whole = self.sides[side]
        order = sorted({id for points in whole for id in points.ids}, key=_shuffled)
        half = set(order[: len(order) // 2])
        other = [points.only(lambda id: id not in half) for points in whole]
        here = [points.only(half.__contains__) for points in whole]
        return distance(self, here, other)

    def closed(self, x: Placed) -> Value:
        """Gap closed; null where the interval of the denominator holds 0."""
        n = len({id for points in x for id in points.ids})
        student, enhanced = self.kid(self.sides["student"], "teacher"), self.kid(x, "teacher")
        gap = interval(student, n)
        if gap.low is None or gap.low <= 0:
            return Value(None, n=n, why=gap.why or "student and teacher can't be told apart by these images")
        return interval((student - enhanced) / student, n)

    def _mean_kernel(self, a: Points, b: Points) -> Vector:
        """The mean kernel of images of different ids, (G + 1,)."""
        known = self._means.setdefault(a, WeakKeyDictionary())
        if b not in known:
            known[b] = self._over_blocks(a, b)
        return known[b]

    def _over_blocks(self, a: Points, b: Points) -> Vector:
        rows, columns = (np.array([self.groups[id] for id in points.ids], int) for points in (a, b))
        names, others = np.asarray(a.ids), np.asarray(b.ids)
        in_rows, in_columns, in_both, equal = np.zeros((4, self.count))  # sums by group
        block = max(1, _ENTRIES // max(1, a.x.shape[1] * b.x.shape[0] * b.x.shape[1]))
        for start in range(0, len(a.ids), block):
            groups = rows[start : start + block]
            images = self._between(a.x[start : start + block], b.x)
            i, j = np.nonzero(groups[:, None] == columns)
            own = names[start + i] == others[j]
            images[i[own], j[own]] = 0
            in_rows += np.bincount(groups, images.sum(1, dtype=np.float64), self.count)
            in_columns += np.bincount(columns, images.sum(0, dtype=np.float64), self.count)
            in_both += np.bincount(groups[i], images[i, j], self.count)
            equal += np.bincount(groups[i[own]], minlength=self.count)
        left, right = (len(some) - np.bincount(some, minlength=self.count) for some in (rows, columns))
        total, pairs = in_rows.sum(), len(rows) * len(columns) - equal.sum()
        with np.errstate(invalid="ignore", divide="ignore"):  # no pair is left: see `interval`
            without = (total - in_rows - in_columns + in_both) / (left * right - equal.sum() + equal)
            return np.concatenate([[total / pairs], without])

    def _between(self, x: Features, y: Features) -> Features:
        """(n, m): the mean kernel of the crops of each two images."""
        kernel = self.kernel(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))
        if x.shape[1] == y.shape[1] == 1:
            return kernel
        mean: Features = kernel.reshape(len(x), x.shape[1], len(y), y.shape[1]).mean((1, 3), dtype=np.float64)
        return mean

    def _gaussians(self, points: Points, spread: Float) -> "Gaussians":
        """Of all crops, and without each of `_FD_GROUPS` groups, found once for each set."""
        if points not in self._fitted:
            groups, d = min(self.count, _FD_GROUPS), points.x.shape[-1]
            counts, sums, squares = np.zeros(groups), np.zeros((groups, d)), np.zeros((groups, d, d))
            for id, crops in zip(points.ids, points.x * spread, strict=True):
                group = self.groups[id] % groups
                counts[group] += len(crops)
                sums[group] += crops.sum(0)
                squares[group] += crops.T @ crops
            n, total, square = (
                np.concatenate([part.sum(0)[None], part.sum(0) - part]) for part in (counts, sums, squares)
            )
            n = n[:, None]
            with np.errstate(invalid="ignore", divide="ignore"):  # too few are left: see `interval`
                mean = total / n
                outer = mean[:, :, None] * mean[:, None]
                covariance = (square - n[..., None] * outer) / (n[..., None] - 1)
            self._fitted[points] = Gaussians(mean, covariance)
        return self._fitted[points]


def _mean(vectors: Iterable[Vector]) -> Vector:
    mean: Vector = np.mean(list(vectors), 0)
    return mean


def _shuffled(id: str) -> bytes:
    # Not the hash of the splits, of which a range may be all that is there.
    return sha256(f"half {id}".encode()).digest()


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Some of them: means (..., d), covariances (..., d, d); not finite where too few points were left."""

    mean: Float
    covariance: Float

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """(...,): which are finite."""
        return np.asarray(np.isfinite(self.covariance).all((-2, -1)))

    @cached_property
    def spread(self) -> Float:
        """The covariances, 0 where they are not finite."""
        return np.where(self.known[..., None, None], self.covariance, 0)

    @cached_property
    def root(self) -> Float:
        """The square roots of `spread`."""
        values, vectors = np.linalg.eigh(self.spread)
        root: Float = (vectors * np.sqrt(values.clip(0))[..., None, :]) @ vectors.swapaxes(-1, -2)
        return root


def frechet(a: Gaussians, b: Gaussians) -> Vector:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the squared Fréchet distance, as FID has it; (...,)."""
    cross = np.sqrt(np.linalg.eigvalsh(b.root @ a.spread @ b.root).clip(0)).sum(-1)
    traces = np.trace(a.spread + b.spread, axis1=-2, axis2=-1)
    distance = np.square(a.mean - b.mean).sum(-1) + traces - 2 * cross
    return np.where(a.known & b.known, distance, np.nan)
