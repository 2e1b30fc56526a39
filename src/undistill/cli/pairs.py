"""undistill pairs"""

import os
from pathlib import Path
from typing import Annotated

import typer

from undistill.errors import Failure, UsageError

pairs = typer.Typer(help="Draw pairs data sets, and verify them.", no_args_is_help=True)

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes, each with one thread.  [default: as many as cores; on a GPU, 1]"),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.  [default: a GPU if there is one]")]


@pairs.command()
def create(
    file: Annotated[Path, typer.Option("--prompts", metavar="FILE", help="A prompts.jsonl: what to draw.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the data set.")],
    pair: Annotated[str, typer.Option(help="A shipped pair (tiny, flux1), or a pair spec (YAML).")] = "tiny",
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first prompts of FILE only.")] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Pairs a file.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 4,
    workers: Workers = None,
    device: Device = None,
) -> None:
    """Draw every prompt with a pair's student and teacher, into Parquet shards.

    Run it again to go on, after whatever stopped it: shards that are there are kept, and the data set is, byte for
    byte, what it would have been.
    """
    from undistill.prompts import read_prompts

    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; -o takes a folder")
    prompts = read_prompts(file)[:limit]

    from undistill.pairs.spec import read_spec

    spec = read_spec(pair)

    from functools import partial

    from undistill.device import pick_device
    from undistill.pairs.create import create as create_pairs
    from undistill.pairs.generator import Generator

    where = pick_device(device)
    drawn, before = create_pairs(
        prompts, out, spec, partial(Generator, spec, where), shard_size, batch, workers or _workers(where.type)
    )
    typer.echo(f"{drawn} pairs of {spec.name}, {before} done before -> {out}")


@pairs.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A pairs data set.")],
    again: Annotated[bool, typer.Option("--repair", help="Draw what is broken or missing again.")] = False,
    workers: Workers = None,
    device: Device = None,
) -> None:
    """Re-read every shard of a data set, and name those that are broken or missing."""
    from undistill.dataset.shard import read_description
    from undistill.pairs.verify import pair_of, repair
    from undistill.pairs.verify import verify as verify_pairs

    broken = verify_pairs(folder)
    for what in broken.values():
        typer.echo(what, err=True)
    description = read_description(folder)
    if not broken:
        typer.echo(f"{description.rows} pairs in {description.shards} shards, all whole: {folder}")
        return
    count = f"{len(broken)} of {description.shards} shards of {folder}"
    if not again:
        raise Failure(f"{count} are broken or missing: --repair draws them again")

    from functools import partial

    from undistill.device import pick_device
    from undistill.pairs.generator import Generator

    where = pick_device(device)
    repair(folder, list(broken), partial(Generator, pair_of(folder), where), workers or _workers(where.type))
    still = verify_pairs(folder)
    if still:
        raise Failure("; ".join(still.values()))
    typer.echo(f"{count} drawn again, all whole now")


def _workers(device: str) -> int:
    if device != "cpu":
        return 1  # more would have to share its memory
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
