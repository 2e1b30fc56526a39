"""How images spread over classes: shares, entropy, and whether two sets differ.

Images with one id stand together in both sets (the same prompt, or the same seed), so ids are resampled, not images.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import random_table
from scipy.stats.contingency import expected_freq

from undistill.metrics.jackknife import Value, proportion

RESAMPLES = 2000
"""Of the bootstrap."""
TABLES = 9999
"""Drawn for a test."""

Counts = NDArray[np.float64]
"""(..., K): images by class."""


def count_by_id(images: Sequence[tuple[str, str | None]], ids: Mapping[str, int], classes: Sequence[str]) -> Counts:
    """(len(ids), K): how many images of each id are of each class.

    Args:
        images: id and class of each; other classes than those in `classes`, and None, are not counted.
        ids: place of each id; those of other sets too.
    """
    counts = np.zeros((len(ids), len(classes)))
    for id, name in images:
        if name in classes:
            counts[ids[id], classes.index(name)] += 1
    return counts


def entropy(counts: Counts) -> NDArray[np.float64]:
    """(...): Shannon's entropy of the shares in parts of its maximum, log K. 0: all in one class, 1: evenly spread; nan
    where nothing is counted."""
    with np.errstate(invalid="ignore"):
        p = counts / counts.sum(-1, keepdims=True)
    return np.asarray(-np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), p).sum(-1) / np.log(counts.shape[-1]) + 0.0)


def resample(counts: Counts, seed: int) -> Counts:
    """(RESAMPLES, K): the counts of as many ids, drawn with replacement; the same ids for the same seed.

    Args:
        counts: (ids, K), of `count_by_id`.
    """
    random = np.random.default_rng(seed)
    ids = len(counts)
    # In parts: the weights of 100,000 ids would not fit in memory at once.
    parts = (random.multinomial(ids, np.full(ids, 1 / ids), 20) @ counts for _ in range(RESAMPLES // 20))
    return np.concatenate(list(parts))


def shares(counts: Counts, classes: Sequence[str], why: str) -> dict[str, Value]:
    """The share of each class with Wilson's interval.

    Args:
        counts: (ids, K), of `count_by_id`.
        why: the reason where nothing is counted.
    """
    by_class = counts.sum(0).astype(int).tolist()
    n = sum(by_class)
    return {
        name: proportion(count, n) if n else Value(None, why=why) for name, count in zip(classes, by_class, strict=True)
    }


def entropy_value(counts: Counts, seed: int, why: str) -> Value:
    """The entropy with its 95% interval by the bootstrap; without one where all are of one class.

    A resample's entropy is too low by as much as that of the sample, about (K - 1) / 2n, so the percentiles are moved
    until their mean is the sample's entropy. tests/diversity shows the coverage.

    Args:
        counts: (ids, K), of `count_by_id`.
        why: the reason where nothing is counted.
    """
    n = int(counts.sum())
    if n == 0:
        return Value(None, why=why)
    value = float(entropy(counts.sum(0)))
    if value == 0:
        return Value(value, n=n)
    low, high = _percentiles(entropy(resample(counts, seed)), value)
    return Value(value, max(0.0, low), min(1.0, high), n)


def entropy_difference(first: Counts, other: Counts, seed: int, why: str) -> Value:
    """The entropy of `other` less that of `first`, likewise; ids they share are drawn for both."""
    n = min(int(first.sum()), int(other.sum()))
    if n == 0:
        return Value(None, why=why)
    value = float(entropy(other.sum(0)) - entropy(first.sum(0)))
    drawn = entropy(resample(other, seed)) - entropy(resample(first, seed))
    if not np.nanstd(drawn):
        return Value(value, n=n)
    return Value(value, *_percentiles(drawn, value), n)


def _percentiles(drawn: NDArray[np.float64], value: float) -> tuple[float, float]:
    low, high = np.nanquantile(drawn, [0.025, 0.975]) + value - np.nanmean(drawn)
    return float(low), float(high)


def difference_test(first: Counts, other: Counts, seed: int) -> dict[str, float] | None:
    """Could both sets be drawn from one distribution over the classes? None where one of them is empty.

    `chi2`: Pearson's statistic, with `dof` degrees of freedom. `p_shares`, `p_entropy`: how often random tables with
    the same margins, so with the images dealt to the sets anew, have a statistic, or a difference of entropies, as
    large (permutation tests; they need no large counts). They take images as independent.

    Args:
        first, other: (K,), images by class.
    """
    table = np.stack([first, other]).astype(int)
    if not table.sum(1).all():
        return None
    drawn = random_table(table.sum(1), table.sum(0), seed=seed).rvs(TABLES)
    expected = expected_freq(table)
    there = expected[0] > 0

    def chi2(tables: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((np.square(tables - expected)[..., there] / expected[:, there]).sum((-2, -1)))

    def change(tables: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.abs(np.diff(entropy(tables))[..., 0])

    def p(statistic: NDArray[np.float64], own: NDArray[np.float64]) -> float:
        return (1 + int((statistic >= own - 1e-9).sum())) / (1 + TABLES)

    return {
        "chi2": float(chi2(table)),
        "dof": int(there.sum()) - 1,
        "p_shares": p(chi2(drawn), chi2(table)),
        "p_entropy": p(change(drawn), change(table)),
    }
