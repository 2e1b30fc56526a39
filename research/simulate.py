"""How long would many workers take? The engines' way with shards, simulated with batch times that were measured.

    python -m research.simulate PAIRS/timings.csv [--workers 1 --workers 8 --workers 64]
        [--count N] [--shard-size 256] [--pairs-per-day R] [--load S] [--stragglers SHARE] [--slower F] [--mtbf HOURS]

Without --count the shards are those that were measured, in their order. With it, each is a stretch of the measured
batches that begins anywhere: so it is as uneven as they were, whatever its size. Printed are means over the repeats,
and the values between which 95% of them lie.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count as counter
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from undistill.base.command import run
from undistill.base.engines.ray import TRIES
from undistill.base.errors import UsageError
from undistill.pairs.create import Timing, read_timings
from undistill.pairs.plan import DAY_S

_STARTS = 100
"""So often a command may be started."""


@dataclass(frozen=True)
class SimulatedWorker:
    """What shows only when it works."""

    pace: float = 1.0
    """Its time for a shard, over an ordinary worker's."""
    life: float = inf
    """Seconds until it is killed."""


@dataclass(frozen=True)
class SimulatedRun:
    """How the drawing went."""

    workers: int
    alone_s: float
    """What one worker would have taken, neither slow nor killed."""
    makespan_s: float
    again: int
    """Shards that were begun in vain."""
    lost_s: float
    """Seconds of all workers for what was begun in vain, and for loading the models again. Waiting is not in it."""

    @property
    def efficiency(self) -> float:
        """What one worker would have taken, over the time of all: in (0, 1]."""
        return self.alone_s / (self.workers * self.makespan_s)


@dataclass(frozen=True)
class _Task:
    shard: int
    nth: int
    pace: float
    begins: float
    ends: float
    dies: float
    """When its worker does."""


def simulate_schedule(
    times: Sequence[float], workers: int, hire: Callable[[], SimulatedWorker], load: float = 0.0
) -> SimulatedRun:
    """Hand out shards as `engine.ray` does; as `engine.local` does, too, where no worker is killed.

    A free worker takes the next shard, and with its first one loads the models. One that is killed is replaced; the
    new one takes the shard, from its beginning. Where a shard has cost `TRIES` workers the command ends; it is started
    again at once, with new workers, and what is finished is kept. Who finds no shard left is sent home.

    Args:
        times: seconds of an ordinary worker for each shard, in their order.
        hire: gives the next worker.
        load: seconds to start a worker and to load the models.

    Raises:
        UsageError: workers are killed so soon that it comes to no end.
    """
    finished: set[int] = set()
    left: deque[tuple[int, int]] = deque()  # shards, and which try it is
    at_work: list[tuple[float, int, _Task]] = []  # a heap: until when, and in which order they were given
    given = counter()
    now = busy = kept = 0.0
    again = starts = 0

    def give(pace: float, dies: float, loading: float) -> None:
        shard, nth = left.popleft()
        task = _Task(shard, nth, pace, now, now + loading + times[shard] * pace, dies)
        heappush(at_work, (min(task.ends, dies), next(given), task))

    def give_new() -> None:
        worker = hire()
        give(worker.pace, now + worker.life, load)

    while len(finished) < len(times):
        if not at_work:  # the command is started
            if starts == _STARTS:
                raise UsageError(
                    f"started {starts} times, the command has not come to its end: workers live too short for shards "
                    "of this size"
                )
            starts += 1
            left = deque((shard, 1) for shard in range(len(times)) if shard not in finished)
            for _ in range(min(workers, len(left))):
                give_new()
        now, _, task = heappop(at_work)
        busy += now - task.begins
        if task.ends <= task.dies:
            finished.add(task.shard)
            kept += times[task.shard] * task.pace
            if left:
                give(task.pace, task.dies, 0.0)
        elif task.nth < TRIES:
            again += 1
            left.appendleft((task.shard, task.nth + 1))
            give_new()
        else:
            again += 1 + len(at_work)
            busy += sum(now - other.begins for _, _, other in at_work)
            at_work.clear()
    loading = min(workers, len(times)) * load
    return SimulatedRun(workers, load + sum(times), now, again, busy - kept - loading)


def simulate(
    times: Sequence[float],
    workers: int,
    load: float = 0.0,
    stragglers: float = 0.0,
    slower: float = 1.0,
    mtbf: float = inf,
    seed: int | Sequence[int] = 0,
) -> SimulatedRun:
    """`simulate_schedule` with workers at random.

    Args:
        stragglers: the probability that a worker is slow.
        slower: its time for a shard, over another's.
        mtbf: mean seconds that a worker lives; its life is exponentially distributed.
        seed: of numpy's default generator.

    Example:
        simulate([60.0] * 100, workers=8, load=30, mtbf=3600).makespan_s
    """
    generator = np.random.default_rng(seed)

    def hire() -> SimulatedWorker:
        slow, life = generator.random() < stragglers, generator.exponential() * mtbf
        return SimulatedWorker(slower if slow else 1.0, life)

    return simulate_schedule(times, workers, hire, load)


def shard_times(timings: Sequence[Timing]) -> list[float]:
    """Seconds of each shard that was measured, in the order of the shards."""
    ordered = sorted(timings, key=lambda timing: timing.shard)
    return [sum(map(_seconds, batches)) for _, batches in groupby(ordered, lambda timing: timing.shard)]


def stretches(timings: Sequence[Timing], sizes: Sequence[int], seed: int | Sequence[int]) -> list[float]:
    """Seconds of shards of such sizes: each a stretch of the measured batches, shard after shard, that begins anywhere.

    Stretches, because batches that follow each other are alike: single ones at random would make all shards the same.
    """
    images, seconds = (np.cumsum([0.0, *column]) for column in zip(*map(_size, _settled(timings)), strict=True))

    def until(image: NDArray[np.float64]) -> NDArray[np.float64]:
        rounds, rest = np.divmod(image, images[-1])
        return np.asarray(rounds * seconds[-1] + np.interp(rest, images, seconds))

    begin = np.random.default_rng(seed).uniform(0, images[-1], len(sizes))
    times: list[float] = (until(begin + np.asarray(sizes)) - until(begin)).tolist()
    return times


def _settled(timings: Sequence[Timing]) -> list[Timing]:
    """By shard, without the first batch of each, where there are others: a worker's first includes loading."""
    ordered = sorted(timings, key=lambda timing: timing.shard)
    shards = [list(batches) for _, batches in groupby(ordered, lambda timing: timing.shard)]
    return [timing for batches in shards for timing in batches[1:] or batches]


def _seconds(timing: Timing) -> float:
    return timing.student_s + timing.teacher_s


def _size(timing: Timing) -> tuple[int, float]:
    return timing.images, _seconds(timing)


def main(
    timings: Annotated[Path, typer.Argument(help="The timings.csv of pairs that were drawn.")],
    count: Annotated[int | None, typer.Option(min=1, help="Pairs. Not given: the shards measured.")] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Pairs a shard, with --count.")] = 256,
    pairs_per_day: Annotated[
        float | None, typer.Option(min=1e-9, help="Of a worker. Not given: as measured.", show_default=False)
    ] = None,
    workers: Annotated[list[int], typer.Option(min=1)] = [1, 8, 64],  # noqa: B006 (typer's)
    load: Annotated[float, typer.Option(min=0, help="Seconds to start a worker and load the models.")] = 0.0,
    stragglers: Annotated[float, typer.Option(min=0, max=1, help="Share of workers that are slow.")] = 0.0,
    slower: Annotated[float, typer.Option(min=1, help="Their time, over the others'.")] = 2.0,
    mtbf: Annotated[
        float,
        typer.Option(min=1e-9, help="Mean hours until a worker is killed. Not given: none is.", show_default=False),
    ] = inf,
    repeats: Annotated[int, typer.Option(min=1)] = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Simulate the drawing of pairs by many workers."""
    measured = read_timings(timings)
    batches = measured if count is None else _settled(measured)
    pair_s = sum(map(_seconds, batches)) / sum(timing.images for timing in batches)
    scale = 1.0 if pairs_per_day is None else DAY_S / pairs_per_day / pair_s
    sizes = [] if count is None else [min(shard_size, count - first) for first in range(0, count, shard_size)]
    outcomes: dict[int, list[SimulatedRun]] = {number: [] for number in workers}
    seen: list[float] = []
    for repeat in range(repeats):
        unscaled = shard_times(measured) if count is None else stretches(measured, sizes, [seed, repeat])
        times = [time * scale for time in unscaled]
        seen += times
        for number, some in outcomes.items():
            some.append(simulate(times, number, load, stragglers, slower, mtbf * 3600, [seed, repeat, number]))
    minutes = _spread([time / 60 for time in seen])
    print(f"{len(times)} shards, {scale * pair_s:.3g} s a pair, a shard takes {minutes} minutes")
    print()
    print("| workers | hours | efficiency | shards drawn again | worker-hours lost |")
    print("| --- | --- | --- | --- | --- |")
    for number, some in outcomes.items():
        cells = [
            _spread([outcome.makespan_s / 3600 for outcome in some]),
            _spread([outcome.efficiency for outcome in some]),
            _spread([outcome.again for outcome in some]),
            _spread([outcome.lost_s / 3600 for outcome in some]),
        ]
        print(f"| {number} | {' | '.join(cells)} |")


def _spread(values: Sequence[float]) -> str:
    """Three digits each; what rounding leaves of sums is no figure, nor is -0."""
    mean, low, high = (
        f"{round(value, 6) + 0.0:.3g}" for value in (np.mean(values), *np.quantile(values, [0.025, 0.975]))
    )
    return f"{mean} [{low}, {high}]"


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
