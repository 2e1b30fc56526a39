"""How much faster do more workers draw?

    python -m undistill.pairs.scaling [--count N] [--pair tiny] [--workers 1 --workers 2] [--repeats 3]

Draws pairs data sets in temporary folders, with both engines, and prints a table: pairs/s, and the efficiency, which is
the rate of n workers over n times that of one. The clock runs from the first batch of the last worker to begin, so that
loading is left out, to the last batch of all; who runs out of shards before is not made up for. With repeats, engines
and workers take turns, and the median is printed, with the least and the most.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated

import typer

from undistill.dataset.shard import shard_path
from undistill.engine import Engine
from undistill.engine.local import in_processes
from undistill.engine.ray import on_ray
from undistill.errors import UsageError
from undistill.pairs.create import Maker, ShardJob, Timing, draw_shard
from undistill.pairs.generator import Generator
from undistill.pairs.spec import read_spec
from undistill.prompts import make_prompts

ENGINES: dict[str, Callable[[int], Engine]] = {"local": in_processes, "ray": on_ray}


def rate(jobs: list[ShardJob], maker: Maker, engine: Engine, workers: int) -> float:
    """Pairs/s of so many workers."""
    begun: set[str] = set()  # shards; the first ones are a worker's each
    drawn, start, end = 0, 0.0, 0.0
    for said in engine(jobs, maker, draw_shard):
        timing: Timing = said
        end = perf_counter()
        if len(begun) == workers:
            drawn += timing.images
        else:
            begun.add(timing.shard)
            start = end
    return drawn / (end - start)


def main(
    count: Annotated[int, typer.Option(min=8, help="Pairs to draw, each time.")] = 480,
    pair: Annotated[str, typer.Option()] = "tiny",
    workers: Annotated[list[int], typer.Option(min=1)] = [1, 2],  # noqa: B006 (typer's)
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    shard_size: Annotated[int, typer.Option(min=1)] = 20,
    batch: Annotated[int, typer.Option(min=1)] = 4,
) -> None:
    spec = read_spec(pair)
    prompts = make_prompts("A professional portrait of {name}", count, seed=7)
    starts = range(0, count, shard_size)
    if len(starts) < max(workers):
        raise UsageError(f"{count} pairs are {len(starts)} shards: too few for {max(workers)} workers")
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for name, engine in ENGINES.items():
            for number in workers:
                with TemporaryDirectory(prefix="undistill-") as folder:
                    jobs = [
                        ShardJob(
                            shard_path(Path(folder), place), prompts[first : first + shard_size], spec.hash(), batch
                        )
                        for place, first in enumerate(starts)
                    ]
                    maker = partial(Generator, spec, "cpu")
                    rates.setdefault((name, number), []).append(rate(jobs, maker, engine(number), number))
    print("| engine | workers | pairs/s | efficiency |")
    print("| --- | --- | --- | --- |")
    for (name, number), found in rates.items():
        alone = median(rates[name, workers[0]]) / workers[0]
        spread = f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
        print(f"| {name} | {number} | {spread} | {median(found) / number / alone:.2f} |")


if __name__ == "__main__":
    typer.run(main)
