"""undistill bench"""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from undistill.base.errors import UsageError
from undistill.base.lock import locked
from undistill.base.output import say
from undistill.cli.options import DeviceOption, FormatName, FormatOption, print_results


def bench(
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for bench.json and bench.png; --backends can do without."),
    ] = None,
    pair: Annotated[str, typer.Option(help="A shipped pair (tiny, flux1), or a pair spec (YAML).")] = "tiny",
    sizes: Annotated[str, typer.Option(help="Of the images, px, with commas between.")] = "64,128,256,512",
    heads: Annotated[
        list[str] | None,
        typer.Option(
            metavar="all|NAME",
            help="A shipped head, a folder, or a Hugging Face id; may be repeated. all: the shipped ones, and the "
            "published CycleGAN generator.  [default: all]",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns at each size, at most; slow sizes get fewer.")] = 20,
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Time torch.compile too.  [default: on a GPU]"),
    ] = None,
    backends: Annotated[
        bool, typer.Option("--backends", help="What runs heads (enhance --backend) against each other, and no pair.")
    ] = False,
    device: DeviceOption = None,
    form: FormatOption = "text",
) -> None:
    """Time what an image costs: student, student and head, teacher; and heads by themselves, in every variant.

    All take turns, so that noise hits them alike.
    """
    if out is None and not backends:
        raise UsageError("-o is missing: a folder for bench.json and bench.png")
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; -o takes a folder")
    try:
        wanted = [int(size) for size in sizes.split(",")]
    except ValueError as error:
        raise UsageError(f"--sizes {sizes!r}: write whole numbers with commas between, e.g. 64,128") from error

    if backends:
        _time_backends(out, wanted, heads or ["all"], rounds, device, form)
        return
    assert out is not None
    from undistill.bench.run import bench as run
    from undistill.metrics.results import write_json
    from undistill.report.bench import load_matplotlib, show, to_markdown, write_plot

    load_matplotlib()  # what is missing shows before the minutes of timing
    with locked(out):
        results = run(pair, wanted, heads or ["all"], rounds, device, compiled)
        write_json(results, out / "bench.json")
        write_plot(results, out / "bench.png")
    print_results(form, partial(show, results), partial(to_markdown, results), results)
    say(f"-> {out / 'bench.json'}, {out / 'bench.png'}", err=True)


def _time_backends(
    out: Path | None, sizes: list[int], heads: list[str], rounds: int, device: str | None, form: FormatName
) -> None:
    from undistill.bench.backends import bench_backends
    from undistill.metrics.results import write_json
    from undistill.report.backends import show, to_markdown

    with nullcontext() if out is None else locked(out):
        results = bench_backends(sizes, heads, rounds, device)
        if out is not None:
            write_json(results, out / "backends.json")
    print_results(form, partial(show, results), partial(to_markdown, results), results)
    if out is not None:
        say(f"-> {out / 'backends.json'}", err=True)
