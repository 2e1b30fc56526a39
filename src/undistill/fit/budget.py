"""How many pairs and steps there is time for, from what a pair, a step and a look at an image take here."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from undistill.base.errors import UsageError
from undistill.fit.request import EFFORTS, Request
from undistill.metrics.baselines import SEARCHES
from undistill.metrics.tuning import TUNED_ON
from undistill.report.words import duration

SHARD = 256
"""Pairs a shard. Where nobody says how many pairs, whole ones are drawn: they stay when more come."""
FEWEST_PAIRS = 256
"""Below these the gap can't be told from noise, whatever the head does."""
FEWEST_STEPS = 0.025
"""Of the recipe's, below which nothing is learned."""
MEASURED = 1000
"""Images that are measured of many; of few a third."""
VALIDATED = 200
"""Of many; of few a twentieth."""
ROOM = 0.9
"""Share of the budget that is planned for."""
STARTING_S = 45.0
"""Seconds for imports, models and files, of all stages together, on a CPU."""
TRIES = 6
"""Strengths that a search for a filter looks at."""


@dataclass(frozen=True)
class Speeds:
    """Seconds that things take here.

    Args:
        pair: a pair, of one worker; 0 where nothing is to be drawn.
        step: a step of training.
        look: an image's features.
        how: what they rest on, in words.
        workers: that draw at a time, a shard each.
    """

    pair: float
    step: float
    look: float
    how: str
    workers: int = 1


@dataclass(frozen=True)
class Parts:
    """Ranges of the hash of ids: for training, for its validation, and measured on."""

    train: str
    val: str
    measured: str
    share: float
    """Of all images, that is measured."""


@dataclass(frozen=True)
class Amounts:
    """What is drawn and trained, and the seconds that each stage is taken to last."""

    pairs: int
    steps: int
    draw_s: float
    train_s: float
    measure_s: float

    @property
    def seconds(self) -> float:
        """Of all of it."""
        return self.draw_s + self.train_s + self.measure_s + STARTING_S


def parts_of(images: int) -> Parts:
    """How so many images are divided. Of more images a smaller share is measured, of the ids measured before."""
    digits = 3 if images <= 20_000 else len(str(images))
    low = round(max(2 / 3, 1 - MEASURED / images), digits)
    trained = round(low - min(0.05, VALIDATED / images), digits)
    start, end = (f"{place:.{digits}g}" for place in (trained, low))
    return Parts(f"0:{start}", f"{start}:{end}", f"{end}:1", 1 - low)


def afford(request: Request, speeds: Speeds, steps: int, have: int = 0, fixed: int = 0) -> Amounts:
    """How many pairs and steps.

    Args:
        steps: the recipe's own.
        have: pairs that are drawn already, and stay.
        fixed: images, where none are to be drawn; else 0.

    Raises:
        UsageError: fewer pairs are asked for than are there, or the budget is too small to measure anything.
    """
    effort = EFFORTS[request.quality]
    if request.count is not None and request.count < have:
        raise UsageError(f"{have} pairs are there already: --count takes {have} or more")
    have, said = max(have, fixed), fixed or request.count
    wanted, whole = said or max(have, effort.pairs), effort.steps(steps)

    def some(share: float) -> Amounts:
        """With this share of pairs, where their number is free, and of steps."""
        pairs = said or max(have, SHARD, int(share * wanted) // SHARD * SHARD)
        return amounts(pairs, max(1, round(share * whole)), speeds, have)

    if request.budget is None or some(1).seconds <= ROOM * request.budget:
        return some(1)
    share = _largest(lambda share: some(share).seconds <= ROOM * (request.budget or 0))
    least = amounts(said or max(have, SHARD), ceil(FEWEST_STEPS * steps), speeds, have)
    if share is None or some(share).steps < least.steps:
        raise UsageError(
            f"a budget of {duration(request.budget)} is too small to measure anything: {least.pairs:,} pairs, "
            f"{least.steps:,} steps and the measure take {duration(least.seconds / ROOM)} here"
        )
    return some(share)


def refuse_hopeless(budget: float, pair_s: float) -> None:
    """Refuse a budget in which the fewest pairs can't be drawn, before any is.

    Args:
        pair_s: seconds of a pair, where they are known; else 0.

    Raises:
        UsageError: it is one.
    """
    least = (STARTING_S + FEWEST_PAIRS * pair_s) / ROOM
    if budget < least:
        raise UsageError(
            f"a budget of {duration(budget)} is too small to measure anything: to begin and to draw {FEWEST_PAIRS} "
            f"pairs take {duration(least)}"
        )


def amounts(pairs: int, steps: int, speeds: Speeds, have: int = 0) -> Amounts:
    """With so many pairs and steps."""
    measured = parts_of(pairs).share * pairs
    rest = pairs - measured
    tuned = min(TUNED_ON, rest)
    # Student, teacher, head and five filters, each with features and what compares; and what filters are tuned on.
    looks = 12 * measured + 2 * rest + SEARCHES * TRIES * tuned / 4 + TRIES * tuned
    drawn = max(0, pairs - have)
    at_a_time = min(speeds.workers, max(1, ceil(drawn / SHARD)))
    return Amounts(pairs, steps, drawn * speeds.pair / at_a_time, steps * speeds.step, looks * speeds.look)


def _largest(fits: Callable[[float], bool]) -> float | None:
    """The largest share that fits, to a hundredth; None: none does."""
    return next((percent / 100 for percent in range(99, 0, -1) if fits(percent / 100)), None)
