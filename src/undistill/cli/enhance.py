"""undistill enhance"""

import re
from pathlib import Path
from typing import Annotated

import typer

from undistill.base.errors import Failure, UsageError
from undistill.cli.options import (
    AddressOption,
    DeviceOption,
    EngineName,
    EngineOption,
    GpusOption,
    check_engine,
    ray_engine,
)


def enhance(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Images, and folders of images; or a pairs data set.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the enhanced images.")],
    head: Annotated[str, typer.Option(help="A shipped head, a folder, or a Hugging Face id.")] = "flux1-lite",
    strength: Annotated[float, typer.Option(min=0, max=1, help="0: unchanged. 1: the head's image.")] = 1.0,
    split: Annotated[str, typer.Option(help="train, val, test, all or LO:HI: these images alone.")] = "all",
    device: DeviceOption = None,
    engine: EngineOption = EngineName.local,
    workers: Annotated[int | None, typer.Option(min=1, help="With ray.  [default: what has room]")] = None,
    address: AddressOption = None,
    gpus: GpusOption = None,
) -> None:
    """Enhance images; each goes to the same relative path and format below OUT.

    Of a pairs data set's student images an enhanced data set is made, shard by shard.

    Run it again to go on: what is done with this head and strength is skipped. Inputs are never overwritten.
    """
    from undistill.dataset import parse_split
    from undistill.dataset.shard import DESCRIPTION
    from undistill.enhance.files import enhance_files, list_jobs
    from undistill.enhance.shards import enhance_shards

    check_engine(engine, address, gpus)
    if engine != "ray" and workers is not None:
        raise UsageError("--workers goes with --engine ray; without it, one process uses all cores")
    for path in (*inputs, out):
        if re.match(r"\w{2,}:/", str(path)):
            raise UsageError(f"{path}: enhance works on folders of a file system, not on object stores: fetch it first")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; -o takes a folder")
    sets = [path for path in inputs if (path / DESCRIPTION).exists()]
    if sets and len(inputs) > 1:
        raise UsageError(f"{sets[0]} is a data set: enhance it by itself, into a folder of its own")
    span = parse_split(split)
    jobs = [] if sets else list_jobs(inputs, out, span)

    from functools import partial

    from undistill.base.device import pick_device
    from undistill.base.engines.local import in_process
    from undistill.enhance.enhancer import Enhancer
    from undistill.heads.head import head_folder, head_hash

    if engine == "ray":
        where, by = ray_engine(workers, device, address, gpus)
    else:
        where, by = str(pick_device(device)), in_process
    folder = head_folder(head).absolute()
    identity = {"head": head, "weights": head_hash(folder)}
    enhancer = partial(Enhancer, folder, where)

    if sets:
        made, before = enhance_shards(sets[0], out, enhancer, identity, strength, span, by)
        typer.echo(f"{made} enhanced, {before} done before -> {out}")
        return
    outcome = enhance_files(jobs, out, enhancer, identity, strength, by)
    for source, note in outcome.notes.items():
        typer.echo(f"{source}: {note}", err=True)
    typer.echo(f"{outcome.enhanced} enhanced, {outcome.skipped} done before -> {out}")
    if outcome.failures:
        for source, reason in outcome.failures.items():
            typer.echo(f"{source} {reason}", err=True)
        raise Failure(f"{len(outcome.failures)} of {len(jobs)} images failed")
