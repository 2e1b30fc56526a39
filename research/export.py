"""How near do exported heads come to torch's float32, and what does int8 save?

    python -m research.export accuracy PORTRAITS [--count 24] [--head NAME] [-o docs/figures/export.json]
    python -m research.export speed [--rounds 5] [--head NAME] [-o docs/figures/export-int8.json]

`accuracy` prints, as a Markdown table, the PSNR of the worst portrait for each head, precision and runtime: of those
that come with the package, by which `undistill export` writes or refuses and int8 takes its scales, and of a folder's
first ones. `speed` runs the graphs in float32 and in int8 by turns, on one thread, and prints CPU time an image:
medians of the rounds. With -o the rows are written, too.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Annotated, get_args

import torch
import typer

from research.figures import Cell, Row, write_rows
from undistill.base.command import run
from undistill.base.files import SAMPLES
from undistill.base.machine import keep_memory
from undistill.bench.variants import PUBLISHED, load_head
from undistill.enhance.backends.runtimes import RUNTIMES
from undistill.enhance.export import (
    LEAST_DB,
    Format,
    Precision,
    agreement,
    graph_in,
    portraits_for,
    wanted,
)
from undistill.heads.head import shipped_heads

FORMATS: dict[Format, str] = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
SIDE = 512

HeadOption = Annotated[list[str] | None, typer.Option(help="May be repeated.  [default: all that are shipped]")]
OutOption = Annotated[Path | None, typer.Option("-o", "--out", help="The rows as JSON.")]


def accuracy(
    folder: Annotated[Path, typer.Argument(metavar="PORTRAITS")],
    count: Annotated[int, typer.Option(min=1)] = 24,
    head: HeadOption = None,
    out: OutOption = None,
) -> None:
    """Hold what would be exported against torch's float32."""
    rows = chain.from_iterable(_near(name, folder, count) for name in head or shipped_heads())
    _tell(rows, out, f"the samples of the package and {count} portraits of {folder}, the worst of each")


def _near(name: str, folder: Path, count: int) -> Iterator[Row]:
    head = load_head(name).eval()
    sets = {
        "samples": list(portraits_for(head, SAMPLES)),
        "portraits": list(islice(portraits_for(head, folder), count)),
    }
    expected = {some: wanted(head, portraits) for some, portraits in sets.items()}
    for precision in get_args(Precision):
        model, least = graph_in(precision, head), LEAST_DB[precision]
        row: Row = {"head": f"`{name}`", "precision": precision, "asked for": int(least)}
        for form, called in FORMATS.items():
            for some, portraits in sets.items():
                psnr = agreement(model, form, portraits, expected[some])
                refused = some == "samples" and psnr < least
                row[f"{called}, {some}"] = {"value": round(psnr, 1), **({"after": ", refused"} if refused else {})}
        yield row


def speed(
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    head: HeadOption = None,
    out: OutOption = None,
) -> None:
    """Time int8 beside float32 of the same runtime."""
    torch.set_num_threads(1)
    rows = chain.from_iterable(_faster(name, rounds) for name in head or [*shipped_heads(), PUBLISHED])
    _tell(rows, out, f"an image of {SIDE} px, CPU time of one thread, medians of {rounds} turns")


def _faster(name: str, rounds: int) -> Iterator[Row]:
    head = load_head(name).eval()
    x = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).numpy()
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    graphs = {precision: graph_in(precision, head) for precision in precisions}
    for form, called in FORMATS.items():
        runs = {precision: RUNTIMES[form](graph, torch.float32) for precision, graph in graphs.items()}
        taken: dict[str, list[float]] = {precision: [] for precision in runs}
        for turn in range(1 + rounds):
            for precision, run_graph in runs.items():
                begin = time.process_time()
                run_graph({"x": x})
                if turn:  # the first one warms up
                    taken[precision].append(1000 * (time.process_time() - begin))
        ratios = [slow / fast for slow, fast in zip(taken["fp32"], taken["int8"], strict=True)]
        milliseconds = {f"{precision}, CPU ms": round(median(values), 1) for precision, values in taken.items()}
        yield {"head": f"`{name}`", "runtime": called, **milliseconds, "times": round(median(ratios), 2), "n": rounds}


def _tell(rows: Iterable[Row], out: Path | None, n: str) -> None:
    """Print rows as they come, and write them."""
    done: list[Row] = []
    for row in rows:
        if not done:
            print(f"| {' | '.join(row)} |\n|{' --- |' * len(row)}")
        done.append(row)
        print(f"| {' | '.join(_cell(cell) for cell in row.values())} |", flush=True)
    if out is not None:
        write_rows(done, out, n)


def _cell(cell: Cell) -> str:
    return f"{cell['value']}{cell.get('after', '')}" if isinstance(cell, dict) else str(cell)


if __name__ == "__main__":
    keep_memory()  # as the command line does
    logging.getLogger().setLevel(logging.ERROR)  # ONNX Runtime's quantiser would have graphs prepared in other ways
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(accuracy)
    app.command()(speed)
    run(app)
