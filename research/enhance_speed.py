"""Does `undistill enhance` take longer than the slowest of its parts?

    python -m research.enhance_speed FOLDER [--head NAME] [--rounds N]

Takes turns, in one process: the images of the folder are decoded, enhanced and encoded, each part by itself on one
thread; then the folder is enhanced as `undistill enhance` does it. Prints images a second, and CPU time an image, as a
Markdown table: medians of the rounds.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, TypeVar

import torch
import typer

from undistill.base.command import run
from undistill.base.engines.local import in_threads
from undistill.enhance import Enhancer
from undistill.enhance.change import Change
from undistill.enhance.files import enhance_files, runs_alone
from undistill.enhance.jobs import list_jobs
from undistill.images import decode, encode, list_images

Result = TypeVar("Result")


def main(
    folder: Annotated[Path, typer.Argument()],
    head: Annotated[str, typer.Option()] = "flux1",
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure the parts of enhancing, and the whole."""
    paths = list_images(folder)
    threads = torch.get_num_threads()
    enhancer = Enhancer(head, "cpu")
    taken = [_round(folder, paths, enhancer, threads) for _ in range(rounds)]
    print(f"| {len(paths)} images, {rounds} rounds | images / s | CPU ms an image |")
    print("| --- | --- | --- |")
    for part in taken[0]:
        wall, cpu = (median(some) for some in zip(*(times[part] for times in taken), strict=True))
        where = f"{threads} threads" if part == "whole" else "1 thread"
        print(f"| {part}, {where} | {len(paths) / wall:.1f} | {1000 * cpu / len(paths):.1f} |")


def _round(folder: Path, paths: list[Path], enhancer: Enhancer, threads: int) -> dict[str, tuple[float, float]]:
    """Seconds of each part, and of its CPU time."""
    taken: dict[str, tuple[float, float]] = {}

    def timed(part: str, call: Callable[[], Result]) -> Result:
        wall, cpu = time.perf_counter(), time.process_time()
        made = call()
        taken[part] = time.perf_counter() - wall, time.process_time() - cpu
        return made

    torch.set_num_threads(1)
    pictures = timed("decode", lambda: [decode(path) for path in paths])
    enhanced = timed("head", lambda: [enhancer(picture.pixels) for picture in pictures])
    timed("encode", lambda: list(map(encode, pictures, enhanced)))
    torch.set_num_threads(threads)
    with TemporaryDirectory() as out:
        jobs = list_jobs([folder], Path(out))
        timed("whole", lambda: enhance_files(jobs, Path(out), lambda: enhancer, {}, Change(), in_threads(runs_alone)))
    return taken


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
