"""Does the reader outrun training?

    python -m research.reader_speed RECIPE --data PAIRS [--steps N]

Takes turns, in one process: it reads the batches of a step, then trains on them. Prints how many samples a second (a
student crop and a teacher crop) each of the two gives, as a Markdown table.
"""

import time
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from torch.utils.data import DataLoader

from undistill.base.command import run
from undistill.base.progress import progressed
from undistill.dataset.read import Consecutive, TrainingCrops
from undistill.dataset.shard import Pairs
from undistill.training.loop import start
from undistill.training.method import train_step
from undistill.training.recipe import read_recipe
from undistill.training.run import cropping_of, method_of
from undistill.training.sides import sides_of

WARM = 2
"""Steps that don't count."""


def main(
    recipe: Annotated[Path, typer.Argument()],
    data: Annotated[Path, typer.Option(help="A pairs data set.")],
    steps: Annotated[int, typer.Option(min=1)] = 50,
    device: Annotated[str, typer.Option()] = "auto",
) -> None:
    """Measure how fast a recipe's crops are read, and how fast it trains on them."""
    followed = read_recipe(recipe)
    sides, _ = sides_of(followed, Pairs(data))
    training = TrainingCrops(*sides, cropping_of(followed), followed.seed, followed.paired)
    fabric = start(followed, device)
    method = method_of(fabric, followed, training, training.counts)
    method.prepare()
    per_step = followed.batch * followed.accumulate
    order = Consecutive(0, (WARM + steps) * per_step)
    batches = iter(DataLoader(training, followed.batch, sampler=order))
    reading, learning = 0.0, 0.0
    for step in progressed("measuring", range(WARM + steps)):
        begin = time.perf_counter()
        some = list(islice(batches, followed.accumulate))
        middle = time.perf_counter()
        losses = train_step(method, [fabric.to_device(batch) for batch in some], step)
        sum(map(float, losses.values()))  # waits for a GPU
        end = time.perf_counter()
        if step >= WARM:
            reading, learning = reading + middle - begin, learning + end - middle
    print("| | samples / s |")
    print("| --- | --- |")
    print(f"| reader | {steps * per_step / reading:.0f} |")
    print(f"| training | {steps * per_step / learning:.1f} |")
    print(f"| ratio | {learning / reading:.1f} |")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
