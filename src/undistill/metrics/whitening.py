"""Principal components of features, whitened: what the distances (metrics/distance.py) and the MMD method share."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

Float = NDArray[np.float64]

DIMENSIONS = 64
RIDGE = 1e-4
"""Added to each variance, as a part of the largest: what hardly varies here must not count without bound elsewhere."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over rows of features, from which mean and covariance follow. Those of a union are the sum of its parts'.

    Args:
        count: rows.
        total: (D,), their sum.
        squares: (D, D), the sum of their outer products.
    """

    count: int
    total: Float
    squares: Float

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Self:
        """Of (n, D) rows."""
        wide = rows.astype(np.float64)
        return cls(len(wide), wide.sum(0), wide.T @ wide)

    @classmethod
    def union(cls, parts: Iterable["Moments"]) -> "Moments":
        """Of all rows of the parts, one at least."""
        return reduce(add, parts)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.squares + other.squares)


class Whitening:
    """The leading principal components of rows, and what brings each to mean 0 and variance 1 over them.

    Args:
        moments: of the rows.
        dimensions: at most; directions without variance are left out.
    """

    def __init__(self, moments: Moments, dimensions: int = DIMENSIONS) -> None:
        self.mean: Float = moments.total / moments.count
        """(D,)"""
        covariance = moments.squares / moments.count - np.outer(self.mean, self.mean)
        last = len(covariance) - 1
        variances, directions = eigh(covariance, subset_by_index=(max(0, last + 1 - max(1, dimensions)), last))
        kept = np.flatnonzero(variances > 1e-9 * variances[-1])[::-1]
        self.directions: Float = directions[:, kept]
        """(D, d), by falling variance."""
        self.ridge = float(RIDGE * variances[-1])
        self.spread: Float = np.sqrt(variances[kept] + self.ridge)
        """(d,) standard deviations along the directions."""

    def __call__(self, rows: NDArray[np.floating]) -> Float:
        """(n, D) rows to (n, d)."""
        whitened: Float = (rows - self.mean) @ self.directions / self.spread
        return whitened
