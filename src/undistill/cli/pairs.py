"""undistill pairs"""

from pathlib import Path
from typing import Annotated, Any

import typer

from undistill.base.engines import Engine
from undistill.base.errors import Failure, UsageError
from undistill.base.machine import cores
from undistill.base.output import console, say
from undistill.cli.options import (
    AddressOption,
    DeviceOption,
    EngineName,
    EngineOption,
    GpusOption,
    OffloadOption,
    WorkersOption,
    check_engine,
    ray_engine,
)

pairs = typer.Typer(help="Draw pairs data sets, and verify them.", no_args_is_help=True)


@pairs.command()
def create(
    file: Annotated[
        Path,
        typer.Option(
            "--prompts", metavar="FILE", help="What to draw: a prompts.jsonl, or a text file, a prompt a line."
        ),
    ],
    out: Annotated[
        str,
        typer.Option("-o", "--out", metavar="FOLDER", help="For the data set: here, or s3://bucket/x."),
    ],
    pair: Annotated[str, typer.Option(help="A shipped pair (tiny, flux1), or a pair spec (YAML).")] = "tiny",
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first prompts of FILE only.")] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Pairs a file.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 4,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
    gpus: GpusOption = None,
    offload: OffloadOption = None,
) -> None:
    """Draw every prompt with a pair's student and teacher, into Parquet shards.

    Run it again to go on, after whatever stopped it: shards that are there are kept, and the data set is, byte for
    byte, what it would have been.
    """
    from undistill.base.files import parse_path
    from undistill.prompts import read_prompts

    check_engine(engine, address, gpus)
    folder = parse_path(out)
    if folder.is_file():
        raise UsageError(f"{out} is a file; -o takes a folder")
    prompts = read_prompts(file)[:limit]

    from undistill.pairs.spec import read_spec

    spec = read_spec(pair)

    from functools import partial

    from undistill.pairs.create import create as create_pairs
    from undistill.pairs.generator import Generator

    where, by = _engine(engine, workers, device, address, gpus)
    drawn, before = create_pairs(prompts, folder, spec, partial(Generator, spec, where, offload), shard_size, batch, by)
    say(f"{drawn} pairs of {spec.name}, {before} done before -> {out}")


@pairs.command()
def plan(
    pair: Annotated[str, typer.Option(help="A shipped pair (flux1, flux1-nf4), or a pair spec (YAML).")] = "flux1",
    count: Annotated[int, typer.Option(min=1, help="Pairs.")] = 140_000,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 4,
    drawn: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pairs of it, drawn here: their times and sizes count.")
    ] = None,
) -> None:
    """Say what a pairs data set will take: downloads, memory, time, storage. Nothing is downloaded."""
    from undistill.pairs.plan import plan as plan_pairs
    from undistill.pairs.plan import show
    from undistill.pairs.spec import read_spec

    show(plan_pairs(read_spec(pair), count, batch, drawn), console())


@pairs.command()
def verify(
    data: Annotated[str, typer.Argument(metavar="FOLDER", help="A pairs data set: here, or s3://bucket/x.")],
    again: Annotated[bool, typer.Option("--repair", help="Draw what is broken or missing again.")] = False,
    workers: WorkersOption = None,
    device: DeviceOption = None,
) -> None:
    """Re-read every shard of a data set, and name those that are broken or missing."""
    from undistill.base.files import parse_path
    from undistill.dataset.shard import read_description
    from undistill.pairs.verify import pair_of, repair
    from undistill.pairs.verify import verify as verify_pairs

    folder = parse_path(data)
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

    from undistill.pairs.generator import Generator

    where, by = _engine(EngineName.local, workers, device, None, None)
    repair(folder, list(broken), partial(Generator, pair_of(folder), where), by)
    still = verify_pairs(folder)
    if still:
        raise Failure("; ".join(still.values()))
    say(f"{count} drawn again, all whole now")


@pairs.command()
def recover(
    data: Annotated[str, typer.Argument(metavar="FOLDER", help="A pairs data set: here, or s3://bucket/x.")],
    pair: Annotated[str | None, typer.Option(help="Its pair, where it is none of the shipped ones.")] = None,
    shard_size: Annotated[int | None, typer.Option(min=1, help="As it was drawn with, where that isn't known.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="As it was drawn with, where that isn't known.")] = None,
) -> None:
    """Make a lost or broken dataset.json anew, and prompts.jsonl, from the shards that are whole."""
    from undistill.base.files import parse_path
    from undistill.pairs.recover import recover as recover_pairs
    from undistill.pairs.spec import read_spec

    folder = parse_path(data)
    description, broken = recover_pairs(folder, None if pair is None else read_spec(pair), shard_size, batch)
    for what in broken:
        typer.echo(what, err=True)
    name = description.pair["name"]
    taken = "" if pair else f" (taken for {name}: if it is another, delete dataset.json and give --pair)"
    say(
        f"{folder}: dataset.json made anew: {description.rows} pairs of {name}{taken} in "
        f"{description.shards} shards; `undistill pairs verify {folder}` checks them"
    )


def _engine(
    name: EngineName, workers: int | None, device: str | None, address: str | None, gpus: float | None
) -> tuple[Any, Engine]:
    """Where to draw, and who does."""
    if name == "ray":
        return ray_engine(workers, device, address, gpus)

    from undistill.base.device import pick_device
    from undistill.base.engines.local import in_processes

    where = pick_device(device)
    # Several on a GPU would have to share its memory.
    return where, in_processes(workers or (cores() if where.type == "cpu" else 1))


@pairs.command()
def push(
    data: Annotated[Path, typer.Argument(metavar="FOLDER", help="A finished pairs data set.")],
    repository: Annotated[str, typer.Argument(metavar="ID", help="On the Hugging Face hub: owner/name.")],
    private: Annotated[bool, typer.Option("--private", help="Where it is made anew.")] = False,
) -> None:
    """Upload a data set to the Hugging Face hub, with a card; log in with `hf auth login` first."""
    from undistill.hub.pairs import push_pairs

    say(f"-> {push_pairs(data, repository, private=private)}")
