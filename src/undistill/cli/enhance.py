"""undistill enhance"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undistill.base.errors import Failure, UsageError
from undistill.base.lock import locked
from undistill.cli.options import (
    AddressOption,
    DeviceOption,
    EngineName,
    EngineOption,
    GpusOption,
    check_engine,
    ray_engine,
)

if TYPE_CHECKING:
    from undistill.base.engines import Engine
    from undistill.enhance.enhancer import Enhancer
    from undistill.enhance.files import EnhanceJob

DEFAULT = "flux1"
"""The head that is taken where none is named."""


def enhance(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT...", help="Images, and folders of images; or a pairs data set."),
    ] = None,
    samples: Annotated[
        bool, typer.Option("--samples", help="The portraits by FLUX.1-schnell that come with the package.")
    ] = False,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the enhanced images.")] = Path("enhanced"),
    head: Annotated[
        str | None,
        typer.Option(help="A shipped head, a folder, or a Hugging Face id.  [default: flux1; a pairs data set's own]"),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Each image by the head that has not seen it, of `undistill train --folds`."),
    ] = None,
    strength: Annotated[float, typer.Option(min=0, max=1, help="0: unchanged. 1: the head's image.")] = 1.0,
    split: Annotated[str, typer.Option(help="train, val, test, all or LO:HI: these images alone.")] = "all",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what was made there with another head or strength.")
    ] = False,
    device: DeviceOption = None,
    engine: EngineOption = EngineName.local,
    workers: Annotated[int | None, typer.Option(min=1, help="With ray.  [default: what has room]")] = None,
    address: AddressOption = None,
    gpus: GpusOption = None,
) -> None:
    """Enhance images; each goes to the same relative path and format below OUT.

    Of a pairs data set's student images an enhanced data set is made, shard by shard.

    Run it again to go on: what is done with this head and strength is skipped. Inputs and files of others are never
    overwritten; what undistill made with another head or strength is with --overwrite alone.
    """
    from undistill.base.files import SAMPLES
    from undistill.base.record import Record
    from undistill.dataset import parse_split
    from undistill.dataset.shard import DESCRIPTION, Pairs
    from undistill.enhance.files import Outcome, check_settings, enhance_files, list_jobs
    from undistill.enhance.shards import enhance_shards

    inputs = [*(inputs or ()), *([SAMPLES] if samples else ())]
    if not inputs:
        raise UsageError("nothing to enhance: name images or folders, or take --samples")
    check_engine(engine, address, gpus)
    if engine != "ray" and workers is not None:
        raise UsageError("--workers goes with --engine ray; without it, one process uses all cores")
    for path in (*inputs, out):
        if re.match(r"\w{2,}:/", str(path)):
            raise UsageError(f"{path}: enhance works on folders of a file system, not on object stores: fetch it first")
    if folds is not None and head is not None:
        raise UsageError("give either --head, or --folds with heads of its own")
    sets = [path for path in inputs if (path / DESCRIPTION).exists()]
    if sets and len(inputs) > 1:
        raise UsageError(f"{sets[0]} is a data set: enhance it by itself, into a folder of its own")
    if sets and overwrite:
        raise UsageError("a data set is never overwritten: choose a new folder for -o")
    if sets and folds is not None:
        raise UsageError(f"{sets[0]} is a pairs data set: --folds takes folders of images")
    span = parse_split(split)

    if sets:
        where, by = _workers(engine, workers, device, address, gpus)
        made_by = _maker(head or Pairs(sets[0]).description.pair.get("head") or DEFAULT, where)
        made, before = enhance_shards(sets[0], out, *made_by, strength, span, by)
        typer.echo(f"{made} enhanced, {before} done before -> {out}")
        return
    with locked(out):
        jobs = list_jobs(inputs, out, span)
        where, by = _workers(engine, workers, device, address, gpus)
        parts = list(_parts(jobs, head or DEFAULT, folds, where))
        if not overwrite:
            record = Record(out)
            for some, _, made_with in parts:
                check_settings(record, some, made_with, strength)
        outcome = Outcome(0, 0, {}, {})
        for some, enhancer, made_with in parts:
            outcome += enhance_files(some, out, enhancer, made_with, strength, by)
    for source, note in outcome.notes.items():
        typer.echo(f"{source}: {note}", err=True)
    typer.echo(f"{outcome.enhanced} enhanced, {outcome.skipped} done before -> {out}")
    if outcome.failures:
        for source, reason in outcome.failures.items():
            typer.echo(f"{source} {reason}", err=True)
        raise Failure(f"{len(outcome.failures)} of {len(jobs)} images failed")


def _workers(
    engine: str, workers: int | None, device: str | None, address: str | None, gpus: float | None
) -> tuple[str | None, "Engine"]:
    """Where the head runs, and who runs it."""
    if engine == "ray":
        return ray_engine(workers, device, address, gpus)
    from undistill.base.device import pick_device
    from undistill.base.engines.local import in_process

    return str(pick_device(device)), in_process


def _parts(
    jobs: list["EnhanceJob"], head: str, folds: Path | None, device: str | None
) -> Iterator[tuple[list["EnhanceJob"], "Callable[[], Enhancer]", dict[str, str]]]:
    """The jobs of each head."""
    from undistill.dataset import within
    from undistill.enhance.files import read_folds

    if folds is None:
        yield jobs, *_maker(head, device)
        return
    for fold in read_folds(folds):
        enhancer, made_with = _maker(str(fold.head), device)
        yield [job for job in jobs if within(job.source.stem, fold.ids)], enhancer, made_with | {"fold": fold.name}


def _maker(head: str, device: str | None) -> tuple["Callable[[], Enhancer]", dict[str, str]]:
    """What makes the enhancer, and what the record says of the head."""
    from undistill.enhance.enhancer import Enhancer
    from undistill.heads.head import head_folder, head_hash

    folder = head_folder(head).absolute()
    return partial(Enhancer, folder, device), {"head": head, "weights": head_hash(folder)}
