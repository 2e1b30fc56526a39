"""Values with intervals.

Every statistic is computed G + 1 times: once on all ids, and once without each of G groups of ids. The vector of these
runs through sums, differences and ratios like a number, so that what two rows share cancels, and whatever comes out has
an interval. A plain bootstrap would draw images twice, which distances between sets take for closeness.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

Vector = NDArray[np.float64]
"""(G + 1,): with all ids, without group 0, without group 1, ..."""

MOST_GROUPS = 200


@dataclass(frozen=True)
class Value:
    """A figure of a results table.

    Args:
        low, high: the ends of its 95% interval.
        n: images that it rests on.
        why: the reason where there is no value.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As results.json holds it; `why` only where there is a reason."""
        return {key: part for key, part in asdict(self).items() if key != "why" or part}


def groups_of(ids: Iterable[str]) -> dict[str, int]:
    """Which group each id is left out with: one id a group, or 200 groups of about the same size."""
    order = sorted(set(ids), key=lambda id: sha256(f"group {id}".encode()).digest())
    return {id: place % MOST_GROUPS for place, id in enumerate(order)}


def interval(theta: Vector, n: int, corrected: bool = False) -> Value:
    """The first entry with its 95% interval by the delete-a-group jackknife (Efron & Stein 1981; Student's t).

    Args:
        corrected: take away the jackknife's estimate of the bias of order 1 / n (Quenouille 1956).
    """
    full, left_out = float(theta[0]), theta[1:]
    count = len(left_out)
    if not np.isfinite(theta).all():
        return Value(None, n=n, why="too few images")
    value = count * full - (count - 1) * float(left_out.mean()) if corrected else full
    half = float(t.ppf(0.975, count - 1)) * standard_error(theta)
    return Value(value, value - half, value + half, n)


def standard_error(theta: Vector) -> float:
    """Of the first entry, by the delete-a-group jackknife."""
    left_out = theta[1:]
    count = len(left_out)
    return float(np.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum()))


def mean_value(values: Sequence[float]) -> Value:
    """The mean with its 95% t interval."""
    n = len(values)
    if n == 0:
        return Value(None, why="no image")
    mean = float(np.mean(values))
    if n == 1:
        return Value(mean, n=1)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Value(mean, mean - half, mean + half, n)


def proportion(hits: int, n: int) -> Value:
    """A proportion with Wilson's 95% interval."""
    if n == 0:
        return Value(None, why="no image")
    p, z = hits / n, 1.959964
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return Value(p, max(0.0, centre - half), min(1.0, centre + half), n)
