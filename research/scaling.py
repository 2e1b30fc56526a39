"""How much faster do more workers draw?

    python -m research.scaling [--count N] [--pair tiny] [--workers 1 --workers 2] [--repeats 6]

Draws pairs data sets in temporary folders, with both engines, and prints a table: pairs/s, and the efficiency, which is
the rate of n workers over n times that of one. The clock runs from the first batch of the last worker to begin, so that
starting workers and loading models is left out, to the last batch of all: who runs out of shards before waits, for half
a shard in the mean.

Other work on the machine, and its clock rate, change over minutes, and more than workers cost each other. So the
numbers of workers take turns, in the other order each time, an efficiency is that of two runs which follow each other,
and the table has the mean over the repeats with its 95% interval (Student's t): what is the same in both runs cancels.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated

import typer
from scipy.stats import t

from undistill.base.command import run
from undistill.base.engines import Engine
from undistill.base.engines.local import in_processes
from undistill.base.engines.ray import on_ray
from undistill.base.errors import UsageError
from undistill.base.progress import progress
from undistill.dataset.shard import shard_path
from undistill.pairs.create import DrawJob, GeneratorMaker, PairGenerator, Timing, draw_shard
from undistill.pairs.generator import Generator
from undistill.pairs.spec import read_spec
from undistill.prompts import make_prompts

ENGINES: dict[str, Callable[[int], Engine]] = {"local": in_processes, "ray": on_ray}


def drawing(job: DrawJob, generator: PairGenerator) -> Iterator[tuple[int, Timing]]:
    """`draw_shard`, and which process does it."""
    for timing in draw_shard(job, generator):
        yield os.getpid(), timing


def rate(jobs: list[DrawJob], maker: GeneratorMaker, engine: Engine, workers: int) -> float:
    """Pairs/s of so many workers.

    Raises:
        UsageError: the first ones had drawn everything before the last one began.
    """
    begun: set[int] = set()  # processes
    drawn, start, end = 0, 0.0, 0.0
    for said in engine(jobs, maker, drawing):
        process, timing = said
        end = perf_counter()
        if len(begun) == workers:
            drawn += timing.images
        else:
            begun.add(process)
            start = end
    if not drawn:
        raise UsageError(f"all was drawn before {workers} workers were at work: take a larger --count")
    return drawn / (end - start)


def spread_text(values: Sequence[float]) -> str:
    """The mean and, of several, its 95% interval."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return f"{mean(values):.3f} [{mean(values) - half:.3f}, {mean(values) + half:.3f}]"


def main(
    count: Annotated[int, typer.Option(min=8, help="Pairs to draw, each time.")] = 320,
    pair: Annotated[str, typer.Option()] = "tiny",
    workers: Annotated[list[int], typer.Option(min=1, help="The first is what the others are held against.")] = [1, 2],  # noqa: B006 (typer's)
    repeats: Annotated[int, typer.Option(min=1)] = 6,
    shard_size: Annotated[int, typer.Option(min=1)] = 8,
    batch: Annotated[int, typer.Option(min=1)] = 4,
) -> None:
    """Measure how much faster more workers draw."""
    spec = read_spec(pair)
    prompts = make_prompts("A professional portrait of {name}", count, seed=7)
    starts = range(0, count, shard_size)
    if len(starts) < max(workers):
        raise UsageError(f"{count} pairs are {len(starts)} shards: too few for {max(workers)} workers")
    rates: dict[tuple[str, int], list[float]] = {(name, number): [] for name in ENGINES for number in workers}
    with progress("drawing", repeats * len(rates)) as bar:
        for turn in range(repeats):
            for name, engine in ENGINES.items():
                for number in workers if turn % 2 == 0 else reversed(workers):
                    with TemporaryDirectory(prefix="undistill-") as folder:
                        jobs = [
                            DrawJob(
                                shard_path(Path(folder), place), prompts[first : first + shard_size], spec.hash(), batch
                            )
                            for place, first in enumerate(starts)
                        ]
                        maker = partial(Generator, spec, "cpu")
                        rates[name, number].append(rate(jobs, maker, engine(number), number))
                    bar.advance()
    print("| engine | workers | pairs/s | efficiency |")
    print("| --- | --- | --- | --- |")
    for (name, number), found in rates.items():
        alone = rates[name, workers[0]]
        efficiency = [many / number / (few / workers[0]) for many, few in zip(found, alone, strict=True)]
        print(f"| {name} | {number} | {spread_text(found)} | {spread_text(efficiency)} |")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
