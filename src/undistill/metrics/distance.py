"""Distances between sets of images: KID, FD, and the gap closed.

    gap closed = (D(student) - D(enhanced)) / (D(student) - D(teacher))

D(x) is the distance of x to the teacher's images of other prompts. It is 0 for what is as far away as the student, 1
for what is as near as the teacher is to itself. How these choices were made: docs/measure.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from undistill.metrics.features import Features
from undistill.metrics.jackknife import Value, Vector, interval

DIMENSIONS = 64
RIDGE = 1e-4
ENOUGH_FOR_FD = 1000
"""Images a side from which on the gap is measured by FD, below by KID."""

Float = NDArray[np.float64]
Kernel = Callable[[Features, Features], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Points:
    """A set of images in the space of a `Projection`: their ids, and (n, crops, d) features. Equal only to itself."""

    ids: Sequence[str]
    x: Features

    def only(self, keep: Callable[[str], bool]) -> "Points":
        places = [place for place, id in enumerate(self.ids) if keep(id)]
        return Points([self.ids[place] for place in places], self.x[places])


class Projection:
    """The leading principal components of features, and how far they lie outside these, all whitened: mean 0 and
    variance 1 over student and teacher crops.

    Texture moves features little, content much: without whitening the distance is between hair styles. And a change
    that neither student nor teacher know (a net, say) must not stay unseen: it shows in the last coordinate.

    Args:
        features: (crops, D) of one image after another.
        dimensions: at most; no more than one for two images, since directions of few images are their own.
    """

    def __init__(self, features: Iterable[Features], dimensions: int = DIMENSIONS) -> None:
        images = crops = 0
        total: Float = np.zeros(())
        squares: Float = np.zeros(())
        some: list[Float] = []
        several = iter(features)
        while chunk := list(islice(several, 100)):
            wide = np.concatenate(chunk).astype(np.float64)
            images += len(chunk)
            crops += len(wide)
            total = total + wide.sum(0)
            squares = squares + wide.T @ wide
            some.append(wide[:: 5 if len(some) < 20 else 50])
        self.mean = total / crops
        variances, directions = np.linalg.eigh(squares / crops - np.outer(self.mean, self.mean))
        kept = np.flatnonzero(variances > 1e-9 * variances[-1])[::-1][: min(dimensions, max(1, images // 2))]
        self.directions: Float = directions[:, kept]
        outside = self._outside(np.concatenate(some) - self.mean)
        self.mean_outside = outside.mean()
        # What hardly varies in these images must not count without bound in others.
        self.spread: Float = np.sqrt(np.append(variances[kept], outside.var()) + RIDGE * variances[-1])
        """(d,) standard deviations before whitening."""

    def __call__(self, ids: Sequence[str], features: Iterable[Features]) -> Points:
        return Points(ids, np.stack([self._whiten(crops) for crops in features]))

    def _whiten(self, crops: Features) -> Features:
        centred = crops - self.mean
        inside = centred @ self.directions
        outside = self._outside(centred) - self.mean_outside
        whitened: Features = (np.column_stack([inside, outside]) / self.spread).astype(np.float32)
        return whitened

    def _outside(self, centred: Float) -> Float:
        """Length of what the directions leave of each row."""
        squares = np.square(centred).sum(1) - np.square(centred @ self.directions).sum(1)
        length: Float = np.sqrt(squares.clip(0))
        return length


def gaussian(a: Features, b: Features) -> NDArray[np.float32]:
    """exp(-|a - b|^2 / 4d), (n, d) and (m, d) to (n, m): the squared distance of two crops is 2d on average."""
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * (a @ b.T)
    kernel: NDArray[np.float32] = np.exp(-np.maximum(squares, 0) / (4 * a.shape[1]))
    return kernel


def cubic(a: Features, b: Features) -> NDArray[np.float32]:
    """(a . b / d + 1)^3, KID's kernel (Binkowski et al. 2018, eq. 4)."""
    kernel: NDArray[np.float32] = (a @ b.T / a.shape[1] + 1) ** 3
    return kernel


class Gap:
    """Distances to one student and one teacher set, as vectors for intervals (jackknife.py).

    Args:
        groups: of all ids that occur.
        spread: (d,), the projection's: FD is taken before whitening, as FID is. None: ones.
        kernel: of KID.
    """

    def __init__(
        self,
        student: Points,
        teacher: Points,
        groups: Mapping[str, int],
        spread: Float | None = None,
        kernel: Kernel = gaussian,
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.groups = groups
        self.count = max(groups.values()) + 1
        self.spread = np.ones(student.x.shape[-1]) if spread is None else spread
        self.kernel = kernel
        self.sides = {"student": student, "teacher": teacher}
        self._means: dict[tuple[Points, Points], Vector] = {}

    def kid(self, x: Points, side: str) -> Vector:
        """Unbiased squared MMD (Gretton et al. 2012, eq. 3) of x to the student's or the teacher's images.

        An image's features are the set of its crops, the kernel of two images the mean over their crops. Images with
        one id are never compared: so this is the mean over all ways to give each side prompts of its own, and D of a
        set to itself is 0.
        """
        other = self.sides[side]
        return self._mean(x, x) + self._mean(other, other) - 2 * self._mean(x, other)

    def fd(self, x: Points, side: str) -> Vector:
        """Fréchet distance of Gaussians (Dowson & Landau 1982) of all crops; its bias is not taken away."""
        return self._frechet(x, self.sides[side])

    def floor(self, side: str, distance: Callable[["Gap", Points, str], Vector]) -> Vector:
        """The distance, `Gap.kid` or `Gap.fd`, of one half of a side to its other half."""
        points = self.sides[side]
        order = sorted(set(points.ids), key=_shuffled)
        half = set(order[: len(order) // 2])
        other = points.only(lambda id: id not in half)
        halves = Gap(points.only(half.__contains__), other, self.groups, self.spread, self.kernel)
        return distance(halves, halves.student, "teacher")

    def closed(self, x: Points) -> Value:
        """Gap closed; null where the interval of the denominator holds 0."""
        n = len(x.ids)
        if min(n, len(self.teacher.ids)) // 2 >= ENOUGH_FOR_FD:
            reference = self.teacher.only(lambda id: not in_a(id))
            sides = [points.only(in_a) for points in (self.student, x, self.teacher)]
            n = min(len(points.ids) for points in (*sides, reference))
            student, enhanced, teacher = (
                self._frechet(Points(points.ids[:n], points.x[:n]), Points(reference.ids[:n], reference.x[:n]))
                for points in sides
            )
        else:
            student, enhanced = self.kid(self.student, "teacher"), self.kid(x, "teacher")
            teacher = np.zeros_like(student)
        gap = interval(student - teacher, n)
        if gap.low is None or gap.low <= 0:
            return Value(None, n=n, why="student and teacher can't be told apart by these images")
        return interval((student - enhanced) / (student - teacher), n)

    def _mean(self, a: Points, b: Points) -> Vector:
        """The mean kernel of images of different ids; (G + 1,). Found once for each two sets."""
        if (a, b) not in self._means:
            self._means[a, b] = self._mean_kernel(a, b)
        return self._means[a, b]

    def _mean_kernel(self, a: Points, b: Points) -> Vector:
        sums, counts = np.zeros((2, self.count, self.count))
        places_a, places_b = (np.array([self.groups[id] for id in points.ids]) for points in (a, b))
        names_a, names_b = np.asarray(a.ids), np.asarray(b.ids)
        block = 256
        for i in range(0, len(a.ids), block):
            for j in range(0, len(b.ids), block):
                p, q = a.x[i : i + block], b.x[j : j + block]
                kernel = self.kernel(p.reshape(-1, p.shape[-1]), q.reshape(-1, q.shape[-1]))
                images = kernel.reshape(len(p), p.shape[1], len(q), q.shape[1]).mean((1, 3), dtype=np.float64)
                different = names_a[i : i + block, None] != names_b[j : j + block]
                where = np.ix_(places_a[i : i + block], places_b[j : j + block])
                np.add.at(sums, where, images * different)
                np.add.at(counts, where, different)
        with np.errstate(invalid="ignore"):  # no pair is left: see `interval`
            return _left_out(sums) / _left_out(counts)

    def _frechet(self, a: Points, b: Points) -> Vector:
        moments = [self._moments(points) for points in (a, b)]
        return np.array(
            [
                frechet(*one, *other) if np.isfinite(one[1]).all() and np.isfinite(other[1]).all() else np.nan
                for one, other in zip(*moments, strict=True)
            ]
        )

    def _moments(self, points: Points) -> list[tuple[Float, Float]]:
        """Mean and covariance of the crops, with all groups and without each."""
        d = points.x.shape[-1]
        counts, sums, squares = np.zeros(self.count), np.zeros((self.count, d)), np.zeros((self.count, d, d))
        for id, crops in zip(points.ids, points.x * self.spread, strict=True):
            group = self.groups[id]
            counts[group] += len(crops)
            sums[group] += crops.sum(0)
            squares[group] += crops.T @ crops
        parts = [(part, part.sum(0)) for part in (counts, sums, squares)]
        moments = []
        for left in (None, *range(self.count)):
            n, total, square = (whole - (0 if left is None else part[left]) for part, whole in parts)
            with np.errstate(invalid="ignore", divide="ignore"):  # too few are left: see `interval`
                mean = total / n
                moments.append((mean, (square - n * np.outer(mean, mean)) / (n - 1)))
        return moments


def in_a(id: str) -> bool:
    """Which half of the prompts an id belongs to, whatever else is there."""
    return _shuffled(id)[0] < 128


def _shuffled(id: str) -> bytes:
    # Not the hash of the splits, which would be all of one half.
    return sha256(f"half {id}".encode()).digest()


def frechet(
    mean_a: Float,
    covariance_a: Float,
    mean_b: Float,
    covariance_b: Float,
) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the squared Fréchet distance, as FID has it."""
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariance_b @ root).clip(0)).sum()
    distance = np.square(mean_a - mean_b).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross
    return float(distance)


def _left_out(sums: Float) -> Vector:
    """Totals of a (G, G) table: of all, and without each group's row and column."""
    total = sums.sum()
    return np.concatenate([[total], total - sums.sum(0) - sums.sum(1) + sums.diagonal()])
