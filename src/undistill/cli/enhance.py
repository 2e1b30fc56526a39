"""undistill enhance"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from undistill.base.errors import Failure, UsageError
from undistill.base.lock import locked
from undistill.base.output import say
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
from undistill.cli.enhance_server import REQUESTS, asking, check_server, remake
from undistill.cli.options import (
    AddressOption,
    DeviceOption,
    EngineName,
    EngineOption,
    GpusOption,
    check_engine,
    ray_engine,
)
from undistill.cli.pipe import PIPE, read_pipe, write_pipe

AnyBackend = Literal["auto", "torch", "contiguous", "compile", "onnx", "openvino"]

if TYPE_CHECKING:
    from undistill.base.engines import Engine
    from undistill.cli.enhance_options import MakeLabel
    from undistill.enhance.backends import BackendName
    from undistill.enhance.change import Change
    from undistill.enhance.enhancer import Enhancer
    from undistill.enhance.files import Outcome
    from undistill.enhance.jobs import EnhanceJob
    from undistill.enhance.provenance import Label
    from undistill.images import Encoding

    Part = tuple[list[EnhanceJob], Callable[[], Any], dict[str, str]]
    """Jobs, what makes their enhancer or the client that asks for it, and what the record says of its head."""

DEFAULT = "flux1"
"""The head that is taken where none is named."""
DATASET = "dataset.json"
"""`undistill.dataset.shard.DESCRIPTION`, which brings pyarrow along: images don't need it."""


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
            help="What runs the head; auto: the fastest here, timed once and kept, or what OUT was begun with."
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
    from undistill.base.engines.local import in_process, in_threads
    from undistill.base.files import SAMPLES
    from undistill.base.record import Record
    from undistill.dataset import parse_split
    from undistill.enhance.change import Change
    from undistill.enhance.files import Outcome, check_settings, enhance_files, runs_alone
    from undistill.enhance.jobs import list_jobs
    from undistill.images import Encoding

    inputs = [*(inputs or ()), *([SAMPLES] if samples else ())]
    if not inputs:
        raise UsageError("nothing to enhance: name images or folders, or take --samples")
    check_engine(engine, address, gpus)
    wanted = read_change(strength, where, feather, no_face, masks, keep_identity)
    label = read_label(generated, provenance, c2pa_cert, c2pa_key, engine)
    how = Encoding(None if format == "same" else format.upper(), quality, lossless, colour)
    _check([*inputs, out], how, suffix)
    if folds is not None and head is not None:
        raise UsageError("give either --head, or --folds with heads of its own")
    check_server(server, folds or masks or c2pa_cert or device or backend != "auto" or engine != "local" or out == PIPE)
    span = parse_split(split)

    sets = [path for path in inputs if (path / DATASET).exists()]
    if sets:
        _check_set(sets[0], inputs, overwrite)
        of_files = how != Encoding() or suffix or masks or c2pa_cert or generated or wanted != Change(strength)
        if folds is not None or dry_run or server or of_files:
            raise UsageError(
                f"{sets[0]} is a pairs data set, and becomes another: --folds, --server, --dry-run and options of "
                "files don't go with it"
            )
        by_whom = _workers(engine, workers, device, address, gpus, in_process)
        _enhance_set(sets[0], out, head, backend, strength, span, by_whom)
        return
    if out == PIPE:
        if folds is not None or suffix or dry_run or overwrite or workers or engine == "ray":
            raise UsageError("--folds, --suffix, --dry-run, --overwrite, --workers and --engine don't go with -o -")
        enhancer, made_with = _maker(head or DEFAULT, device, _Choice(backend, strength, ()))
        _to_pipe(inputs, span, masks, enhancer, wanted, how, label(made_with))
        return
    with read_pipe(inputs) as files, nullcontext() if dry_run else locked(out):
        jobs = list_jobs(files, out, span, how.format, suffix, masks)
        by: Engine | None = None
        place = device
        if not dry_run:
            threads = (workers or REQUESTS) if server else None
            place, by = _workers(
                engine, None if server else workers, device, address, gpus, in_threads(runs_alone, threads)
            )
        record = Record(out)
        choice = _Choice(backend, 0 if dry_run else strength, () if overwrite else record.files.values())
        parts = list(_parts(jobs, head, folds, place, choice, server))
        for some, _, made_with in parts if not overwrite else ():
            check_settings(record, some, made_with, wanted, how, label(made_with))
        if by is None:
            _show(parts, files, out, wanted, how, label)
            return
        outcome = Outcome(0, 0, {}, {})
        for some, enhancer, made_with in parts:
            outcome += enhance_files(
                some, out, enhancer, made_with, wanted, by, how, label(made_with), remake(server, made_with)
            )
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
    strength: float,
    span: tuple[float, float],
    workers: "tuple[str | None, Engine]",
) -> None:
    from undistill.dataset.enhanced import read_enhancement
    from undistill.dataset.shard import DESCRIPTION, Pairs
    from undistill.enhance.shards import enhance_shards

    device, engine = workers
    before = [read_enhancement(out).model_dump()] if (out / DESCRIPTION).exists() else []
    name = head or Pairs(pairs).description.pair.get("head") or DEFAULT
    made_by = _maker(name, device, _Choice(backend, strength, before))
    made, done = enhance_shards(pairs, out, *made_by, strength, span, engine)
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


def _check(places: list[Path], how: "Encoding", suffix: str) -> None:
    for path in places:
        if re.match(r"\w{2,}:/", str(path)):
            raise UsageError(f"{path}: enhance works on folders of a file system, not on object stores: fetch it first")
    if how.quality is not None and how.format == "PNG":
        raise UsageError("--quality goes with formats that lose something, and PNG doesn't")
    if how.quality is not None and how.lossless:
        raise UsageError("give either --quality or --lossless")
    if how.lossless and how.format in ("JPEG", "AVIF"):
        raise UsageError(f"--lossless: {how.format} can't be written without loss here; take --format png or webp")
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


@dataclass(frozen=True)
class _Choice:
    """What runs heads: what was asked, the strength, and the record's entries of what is there."""

    asked: AnyBackend
    strength: float
    entries: Iterable[Mapping[str, Any]]

    def of(self, folder: Path, weights: str, device: str | None) -> "BackendName":
        """The backend of a head."""
        if self.asked != "auto":
            return self.asked
        for entry in self.entries:
            if entry.get("weights") == weights:
                kept: BackendName = entry.get("backend", "torch")
                return kept
        if self.strength == 0 or device is None:  # nothing is run; or who knows where
            return "torch"
        from undistill.base.device import pick_device
        from undistill.enhance.backends.table import fastest
        from undistill.heads import Head

        return fastest(Head.from_pretrained(folder), pick_device(device))


def _parts(
    jobs: list["EnhanceJob"],
    head: str | None,
    folds: Path | None,
    device: str | None,
    choice: _Choice,
    server: str | None,
) -> "Iterator[Part]":
    """The jobs of each head."""
    if server is not None:
        yield asking(jobs, server, head)
        return
    if folds is None:
        yield jobs, *_maker(head or DEFAULT, device, choice)
        return
    from undistill.dataset import within
    from undistill.enhance.folds import read_folds

    for fold in read_folds(folds):
        enhancer, made_with = _maker(str(fold.head), device, choice)
        yield [job for job in jobs if within(job.source.stem, fold.ids)], enhancer, made_with | {"fold": fold.name}


def _maker(head: str, device: str | None, choice: _Choice) -> tuple["Callable[[], Enhancer]", dict[str, str]]:
    """What makes the enhancer, and what the record says of the head."""
    from undistill.enhance.enhancer import Enhancer
    from undistill.heads.head import head_folder, head_hash

    folder = head_folder(head).absolute()
    weights = head_hash(folder)
    backend = choice.of(folder, weights, device)
    told = {} if backend == "torch" else {"backend": str(backend)}
    return partial(Enhancer, folder, device, backend=backend), {"head": head, "weights": weights, **told}
