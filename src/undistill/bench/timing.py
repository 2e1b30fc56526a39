"""Steps that take turns, and what their seconds say."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from math import inf
from typing import TypeVar

from scipy.stats import binom

from undistill.base.errors import Failure, first_line
from undistill.base.progress import progress
from undistill.metrics import ITSELF
from undistill.metrics.jackknife import Value
from undistill.metrics.results import MetricRow

Name = TypeVar("Name", bound=Hashable)
TimedStep = Callable[[int], object]

ENOUGH = 6
"""Rounds from which on a median has an interval."""


def warm_up(steps: Mapping[Name, TimedStep]) -> dict[Name, str]:
    """Take each step once, and say why it can't be taken, by name, where it can't."""
    reasons = {}
    for name, step in steps.items():
        try:
            step(0)
        except (RuntimeError, MemoryError, Failure) as error:  # torch's are RuntimeErrors
            reasons[name] = first_line(error)
    return reasons


def measure_steps(
    steps: Mapping[Name, TimedStep], rounds: int, budget: float = inf, warm: bool = False, what: str = "timing"
) -> dict[Name, list[float]]:
    """The seconds that each step took in each round, after one round to warm up.

    The steps take turns, so that whatever else the machine does meets all of them.

    Args:
        steps: each takes the number of the round, and is done when it returns: a GPU may not still be at it.
        rounds: at most; none begins after `budget` seconds if there are ENOUGH, nor after three times as many.
        warm: `warm_up` came before.
        what: is timed, in words, for the progress bar.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in steps}
    with progress(what, rounds) as bar:
        if not warm:
            for step in steps.values():
                step(0)
        begin = time.perf_counter()
        for turn in range(1, rounds + 1):
            for name, step in steps.items():
                start = time.perf_counter()
                step(turn)
                seconds[name].append(time.perf_counter() - start)
            bar.advance()
            if time.perf_counter() - begin > (budget if turn >= ENOUGH else 3 * budget):
                break
    return seconds


def cost(
    seconds: Mapping[str, Sequence[float]], ways: Mapping[str, Sequence[str]], images: int
) -> dict[str, MetricRow]:
    """`seconds` of an image by each way, and what it has `saved` of the last way's, 0 to 1.

    Args:
        seconds: of each step, by round, as `measure_steps` gives them.
        ways: the steps that each takes; the last is what the others are held against.
        images: made in a round.
    """
    took = {
        way: [sum(turn) / images for turn in zip(*(seconds[step] for step in steps), strict=True)]
        for way, steps in ways.items()
    }
    *_, dearest = took
    rows: dict[str, MetricRow] = {}
    for way, values in took.items():
        saved = [1 - mine / whole for mine, whole in zip(values, took[dearest], strict=True)]
        itself = Value(None, n=len(values), why=ITSELF)
        rows[way] = {"seconds": median(values), "saved": itself if way == dearest else median(saved)}
    return rows


def median(values: Sequence[float]) -> Value:
    """With its interval between two of the ordered values, at least 95% (the sign test's); none below six values."""
    n, ordered = len(values), sorted(values)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    # The k-th from each end: as often as k - 1 or fewer of n coins fall on one side, the median lies outside.
    k = int(binom.ppf(0.025, n, 0.5))
    return Value(middle, ordered[k - 1], ordered[n - k], n) if k else Value(middle, n=n)
