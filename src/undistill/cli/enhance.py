"""undistill enhance"""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from undistill.base.errors import Failure, UsageError
from undistill.base.lock import locked
from undistill.base.output import say
from undistill.cli.enhance_heads import Choice, asking, maker, parts_of, remake
from undistill.cli.enhance_options import (
    C2paCertOption,
    C2paKeyOption,
    FeatherOption,
    GeneratedOption,
    KeepIdentityOption,
    MasksOption,
    NoFaceOption,
    ProvenanceOption,
    WhereOption,
    read_change,
    read_label,
)
from undistill.cli.options import (
    AddressOption,
    AnyBackend,
    DeviceOption,
    EngineName,
    EngineOption,
    GpusOption,
    check_engine,
    ray_engine,
)
from undistill.cli.pipe import PIPE, read_pipe, write_pipe

if TYPE_CHECKING:
    from undistill.base.engines import Engine
    from undistill.cli.enhance_heads import Part
    from undistill.cli.enhance_options import MakeLabel
    from undistill.enhance.change import Change
    from undistill.enhance.enhancer import Enhancer
    from undistill.enhance.files import Outcome
    from undistill.enhance.provenance import Label
    from undistill.images import Encoding


DEFAULT = "flux1"
"""The head that is taken where none is named."""
DATASET = "dataset.json"
"""`undistill.dataset.shard.DESCRIPTION`, which brings pyarrow along: images don't need it."""
_REQUESTS = 4
"""At a time, of a service."""


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
    where: WhereOption = "all",
    feather: FeatherOption = 0.2,
    no_face: NoFaceOption = "whole",
    masks: MasksOption = None,
    keep_identity: KeepIdentityOption = None,
    split: Annotated[str, typer.Option(help="train, val, test, all or LO:HI: these images alone.")] = "all",
    format: Annotated[
        Literal["same", "png", "jpeg", "webp", "avif"],
        typer.Option(help="Of the files that are written; same: that of each input (BMP and GIF become PNG)."),
    ] = "same",
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Of JPEG, WebP and AVIF.  [default: 95; AVIF: 90]")
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="WebP without loss; what came so stays so.")] = False,
    colour: Annotated[
        bool, typer.Option("--colour", help="Greyscale pictures become RGB, with the head's tint.")
    ] = False,
    generated: GeneratedOption = False,
    provenance: ProvenanceOption = True,
    c2pa_cert: C2paCertOption = None,
    c2pa_key: C2paKeyOption = None,
    suffix: Annotated[str, typer.Option(help="Added to the names, before their ending.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what was made there with another head, strength or format.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and make nothing.")] = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Have a service of `undistill serve` do it; its key is in UNDISTILL_API_KEY."),
    ] = None,
    device: DeviceOption = None,
    backend: Annotated[
        AnyBackend,
        typer.Option(
            help="What runs the head; auto: what OUT was begun with, or the fastest here, timed once, for 200 images "
            "or more, and kept."
        ),
    ] = "auto",
    engine: EngineOption = EngineName.local,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes, each with one thread; with --server requests at a time.  [default: this one, with all "
            "cores; --server: 4; ray: what has room]",
        ),
    ] = None,
    address: AddressOption = None,
    gpus: GpusOption = None,
) -> None:
    """Enhance images; each goes to the same relative path and format below OUT, with all that its file says.

    A picture says that it was enhanced, and by which head: in its XMP, and as text in a PNG. - is standard input, and
    with -o standard output, for one image.

    Of a pairs data set's student images an enhanced data set is made, shard by shard.

    Run it again to go on: what is done with this head and strength is skipped. Inputs and files of others are never
    overwritten; what undistill made with another head or strength is with --overwrite alone.
    """
    from undistill.base.engines.local import in_process
    from undistill.base.files import SAMPLES
    from undistill.base.record import Record
    from undistill.dataset import parse_split
    from undistill.enhance.files import Outcome, check_settings, enhance_files
    from undistill.enhance.jobs import list_jobs
    from undistill.images import Encoding, asked_encoding

    inputs = [*(inputs or ()), *([SAMPLES] if samples else ())]
    if not inputs:
        raise UsageError("nothing to enhance: name images or folders, or take --samples")
    check_engine(engine, address, gpus)
    wanted = read_change(strength, where, feather, no_face, masks, keep_identity, here=server is None)
    label = read_label(generated, provenance, c2pa_cert, c2pa_key, engine)
    how = asked_encoding(format, quality, lossless, colour)
    _check([*inputs, out], suffix)
    if folds is not None and head is not None:
        raise UsageError("give either --head, or --folds with heads of its own")
    _check_server(
        server,
        folds or masks or c2pa_cert or device or engine is not EngineName.local or backend != "auto" or out == PIPE,
    )
    span = parse_split(split)

    sets = [path for path in inputs if (path / DATASET).exists()]
    if sets:
        _check_set(sets[0], inputs, overwrite)
        of_files = how != Encoding() or suffix or masks or c2pa_cert or generated
        if folds is not None or dry_run or server or of_files or wanted.keep_identity is not None:
            raise UsageError(
                f"{sets[0]} is a pairs data set, and becomes another, of one strength: --folds, --server, --dry-run, "
                "--keep-identity and options of files don't go with it"
            )
        by_whom = _workers(engine, workers, device, address, gpus, in_process)
        _enhance_set(sets[0], out, head, backend, wanted, span, by_whom)
        return
    if out == PIPE:
        if folds is not None or suffix or dry_run or overwrite or workers or engine == "ray":
            raise UsageError("--folds, --suffix, --dry-run, --overwrite, --workers and --engine don't go with -o -")
        enhancer, made_with = maker(head or DEFAULT, device, Choice(backend, strength, (), 1))
        _to_pipe(inputs, span, masks, enhancer, wanted, how, label(made_with))
        return
    with read_pipe(inputs) as files, nullcontext() if dry_run else locked(out):
        jobs = list_jobs(files, out, span, how.format, suffix, masks)
        by: Engine | None
        place, by = (device, None) if dry_run else _who(server, engine, workers, device, address, gpus)
        record = Record(out)
        kept = () if overwrite else record.files.values()
        choice = Choice(backend, 0 if dry_run else strength, kept, len(jobs))
        parts = list(
            parts_of(jobs, head or DEFAULT, folds, place, choice) if server is None else asking(jobs, server, head)
        )
        for some, _, made_with in parts if not overwrite else ():
            check_settings(record, some, made_with, wanted, how, label(made_with))
        if by is None:
            _show(parts, files, out, wanted, how, label)
            return
        outcome = Outcome(0, 0, {}, {})
        for some, enhancer, made_with in parts:
            how_made = label(made_with), remake(server, made_with)
            outcome += enhance_files(some, out, enhancer, made_with, wanted, by, how, *how_made, in_batches(place))
        _tell(outcome, files, out)


def _to_pipe(
    inputs: list[Path],
    span: tuple[float, float],
    masks: Path | None,
    enhancer: "Callable[[], Enhancer]",
    wanted: "Change",
    how: "Encoding",
    label: "Label | None",
) -> None:
    from undistill.enhance.jobs import list_jobs

    if len(inputs) > 1 or inputs[0].is_dir():
        raise UsageError("-o - is standard output, for one image: name one, or - for standard input")
    with read_pipe(inputs) as files:
        (job,) = list_jobs(files, PIPE, span, how.format, masks=masks)
        write_pipe(job, enhancer, wanted, how, label)


def _check_server(server: str | None, here: object) -> None:
    """Raises:
    UsageError: it is to be done there, and something of it here.
    """
    if server is not None and here:
        raise UsageError(
            "--server does it there: leave out --folds, --mask, --c2pa-cert, --device, --backend, --engine, and -o -"
        )


def _check_set(source: Path, inputs: list[Path], overwrite: bool) -> None:
    if len(inputs) > 1:
        raise UsageError(f"{source} is a data set: enhance it by itself, into a folder of its own")
    if overwrite:
        raise UsageError("a data set is never overwritten: choose a new folder for -o")


def _enhance_set(
    pairs: Path,
    out: Path,
    head: str | None,
    backend: AnyBackend,
    wanted: "Change",
    span: tuple[float, float],
    workers: "tuple[str | None, Engine]",
) -> None:
    from undistill.dataset.enhanced import read_enhancement
    from undistill.dataset.shard import DESCRIPTION, Pairs
    from undistill.enhance.shards import enhance_shards

    device, engine = workers
    before = [read_enhancement(out).model_dump()] if (out / DESCRIPTION).exists() else []
    description = Pairs(pairs).description
    name = head or description.pair.get("head") or DEFAULT
    made_by = maker(name, device, Choice(backend, wanted.strength, before, description.rows))
    made, done, notes = enhance_shards(pairs, out, *made_by, wanted, span, engine)
    for note, images in notes.items():
        say(f"{images} of them: {note}", err=True)
    say(f"{made} enhanced, {done} done before -> {out}")


def _tell(outcome: "Outcome", inputs: list[Path], out: Path) -> None:
    alike: dict[str, list[Path]] = {}
    for source, note in outcome.notes.items():
        alike.setdefault(note, []).append(source)
    for note, sources in alike.items():
        say(f"{sources[0]}{f' and {len(sources) - 1} others' if sources[1:] else ''}: {note}", err=True)
    say(f"{outcome.enhanced} enhanced, {outcome.skipped} done before -> {out}")
    closed = _say_passed_over(inputs)
    for source, reason in outcome.failures.items():
        typer.echo(f"{source} {reason}", err=True)
    if failed := len(outcome.failures):
        raise Failure(f"{failed} of {outcome.enhanced + outcome.skipped + failed} images failed")
    if closed:
        raise Failure("folders could not be read: look at their rights")


def _check(places: list[Path], suffix: str) -> None:
    for path in places:
        if re.match(r"\w{2,}:/", str(path)):
            raise UsageError(f"{path}: enhance works on folders of a file system, not on object stores: fetch it first")
    if "/" in suffix or "\\" in suffix or "\0" in suffix:
        raise UsageError(f"--suffix {suffix!r} is a part of a name, not of a path")


def _say_passed_over(inputs: list[Path]) -> bool:
    """Name what was not taken; returns whether it is a whole folder."""
    from undistill.enhance.jobs import passed_over

    others, closed = passed_over(inputs)
    for kind in others:
        say(f"left out: {kind}", err=True)
    for folder in closed:
        typer.echo(f"left out, as it can't be read: {folder}", err=True)
    return bool(closed)


def _show(
    parts: "list[Part]", inputs: list[Path], out: Path, wanted: "Change", how: "Encoding", label: "MakeLabel"
) -> None:
    """What would become of each job."""
    from undistill.base.record import Record
    from undistill.enhance.files import is_done

    record, done = Record(out), 0
    for jobs, _, made_with in parts:
        for job in jobs:
            before = is_done(record, job, made_with, wanted, how, label(made_with))
            done += before
            if not before:
                typer.echo(f"{job.source} -> {out / job.target}")
    typer.echo(f"{sum(len(jobs) for jobs, *_ in parts) - done} to enhance, {done} done before")
    _say_passed_over(inputs)


def _who(
    server: str | None,
    engine: str,
    workers: int | None,
    device: str | None,
    address: str | None,
    gpus: float | None,
) -> tuple[str | None, "Engine"]:
    """Where heads run, and who runs them or asks the server to."""
    from undistill.base.engines.local import in_threads
    from undistill.enhance.files import runs_alone

    if server is not None:
        return None, in_threads(lambda _: False, workers or _REQUESTS, lambda client: client.give_up())
    place, by = _workers(engine, workers, device, address, gpus, in_threads(runs_alone))
    if in_batches(place) and engine != "ray" and workers is None:
        by = in_threads(runs_alone, 2)  # one batch is decoded and encoded while another is on the GPU
    return place, by


def in_batches(place: str | None) -> bool:
    """Whether images of one size go through a head together there."""
    return place is not None and place.startswith("cuda")


def _workers(
    engine: str,
    workers: int | None,
    device: str | None,
    address: str | None,
    gpus: float | None,
    unless_told: "Engine",
) -> tuple[str | None, "Engine"]:
    """Where the head runs, and who runs it."""
    if engine == "ray":
        return ray_engine(workers, device, address, gpus)
    from undistill.base.device import pick_device
    from undistill.base.engines.local import in_processes

    return str(pick_device(device)), unless_told if workers is None else in_processes(workers)
