"""Does `undistill enhance` take longer than the slowest of its parts?

    python -m research.enhance_speed FOLDER [--head NAME] [--backend auto] [--rounds 3] [-o docs/figures/NAME.json]

Takes turns, in one process: the images of the folder are decoded, enhanced and encoded, each part by itself, on one
thread, and side by side on as many as torch has; then the folder is enhanced as `undistill enhance` does it on these.
Prints images a second, and CPU time an image, as a Markdown table: medians of the rounds; and in each round, how fast
the whole is on as many threads beside its slowest part, and beside all three one after another: where a CPU does
all of it, each part alone keeps its cores busy, and nothing is faster than that. With -o the rows are written, too.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Literal, cast

import torch
import typer

from research.figures import Row, write_rows
from undistill.base.command import run
from undistill.base.device import pick_device
from undistill.base.engines.local import in_threads
from undistill.base.machine import keep_memory
from undistill.base.threads import spread
from undistill.enhance import Enhancer
from undistill.enhance.backends import BackendName
from undistill.enhance.change import Change
from undistill.enhance.files import enhance_files, runs_alone
from undistill.enhance.jobs import list_jobs
from undistill.images import decode, encode, list_images

Part = tuple[str, int]
"""What is done, and on how many threads."""
Taken = dict[Part, tuple[float, float]]
"""Seconds, and those of CPU time."""
WHOLE = "all of it"


def main(
    folder: Annotated[Path, typer.Argument()],
    head: Annotated[str, typer.Option()] = "flux1",
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    backend: Annotated[str, typer.Option(help="As of `undistill enhance`; auto is timed first.")] = "torch",
    device: Annotated[str, typer.Option()] = "cpu",
    out: Annotated[Path | None, typer.Option("-o", "--out")] = None,
) -> None:
    """Measure the parts of enhancing, and the whole."""
    paths = list_images(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what graphs run with is settled as they are loaded
    enhancer = Enhancer(head, pick_device(device), backend=cast(BackendName | Literal["auto"], backend))
    torch.set_num_threads(threads)
    taken = [_round(folder, paths, enhancer, threads) for _ in range(rounds)]
    rows: list[Row] = []
    for part, count in taken[0]:
        wall, cpu = (median(some) for some in zip(*(times[part, count] for times in taken), strict=True))
        rows.append(
            {
                "part": f"{part}, {count} thread{'s' if count > 1 else ''}",
                "images / s": round(len(paths) / wall, 1),
                "CPU ms an image": round(1000 * cpu / len(paths), 1),
            }
        )
    print(f"`{head}` by {enhancer.backend}, {len(paths)} images, {rounds} rounds\n")
    print("| part | images / s | CPU ms an image |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {' | '.join(map(str, row.values()))} |")
    beside: dict[str, Callable[[Iterable[float]], float]] = {
        "its slowest part": max,
        "its parts one after another": sum,
    }
    shares = [f"{_percent([_share(times, threads, of) for times in taken])} of {what}" for what, of in beside.items()]
    said = f"{WHOLE}, speed by round: {'; '.join(shares)}"
    print(f"\n{said}")
    if out is not None:
        what = f"{len(paths)} images, medians of {rounds} rounds; `{head}` by {enhancer.backend}; {said}"
        write_rows(rows, out, what)


def _share(times: Taken, threads: int, of: Callable[[Iterable[float]], float]) -> float:
    """The speed of the whole, of that which the parts' times on as many threads make."""
    parts = [wall for (part, count), (wall, _) in times.items() if part != WHOLE and count == threads]
    return of(parts) / times[WHOLE, threads][0]


def _percent(shares: list[float]) -> str:
    return ", ".join(f"{share:.0%}" for share in shares)


def _round(folder: Path, paths: list[Path], enhancer: Enhancer, threads: int) -> Taken:
    taken: Taken = {}

    @contextmanager
    def timed(part: str, count: int) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        taken[part, count] = time.perf_counter() - wall, time.process_time() - cpu

    for count in sorted({1, threads}):
        with timed("decode", count):
            pictures = list(spread(decode, paths, count))
        with timed("head", count):
            enhanced = list(spread(lambda picture: enhancer(picture.pixels), pictures, count))
        with timed("encode", count):
            list(spread(lambda one: encode(*one), zip(pictures, enhanced, strict=True), count))
    with TemporaryDirectory() as name:
        out, together = Path(name), enhancer.device.type == "cuda"
        jobs, by = list_jobs([folder], out), in_threads(runs_alone)
        with timed(WHOLE, threads):
            enhance_files(jobs, out, lambda: enhancer, {}, Change(), by, together=together)
    return taken


if __name__ == "__main__":
    keep_memory()  # as the command line does
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
