"""Enhance files: metadata kept, nothing overwritten, resumable."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from undistill.base.engines import Engine
from undistill.base.engines.local import in_process
from undistill.base.errors import Failure, UsageError, first_line
from undistill.base.files import REFUSED
from undistill.base.progress import progress
from undistill.base.record import Record, holds, write
from undistill.enhance.batches import Together, by_size
from undistill.enhance.bytes import Enhanced, enhance_bytes
from undistill.enhance.change import Change
from undistill.enhance.enhancer import WHOLE
from undistill.enhance.jobs import READ_ONLY_ENDINGS, EnhanceJob
from undistill.enhance.provenance import Label
from undistill.enhance.shared import SharedEnhancer
from undistill.images import Encoding, ImageError, size_of


@dataclass
class Outcome:
    """What became of the jobs: how many were enhanced and skipped, what was changed on the way, and what failed."""

    enhanced: int
    skipped: int
    notes: dict[Path, str]
    failures: dict[Path, str]

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.enhanced + other.enhanced,
            self.skipped + other.skipped,
            self.notes | other.notes,
            self.failures | other.failures,
        )


def enhance_files(
    jobs: Sequence[EnhanceJob],
    out: Path,
    enhancer: Callable[[], Any],
    head: dict[str, str],
    wanted: Change,
    engine: Engine = in_process,
    how: Encoding | None = None,
    label: Label | None = None,
    remake: Callable[..., Enhanced] = enhance_bytes,
    together: bool = False,
) -> Outcome:
    """Work through the jobs; those that `out` holds already, whole and made with all this, are skipped.

    Args:
        enhancer: makes the enhancer, or what else `remake` takes, when a worker's first image needs it.
        head: name and hash of the head, for the record, and what runs it ("backend") where that is not torch.
        wanted: what is done to pixels.
        engine: who enhances, a batch at a time each: `undistill.base.engines`; in threads with `runs_alone`.
        how: how files are written, if not like those before.
        label: what they are to say of how they were made; None: nothing.
        remake: makes a file's bytes, as `enhance_bytes` does.
        together: images of one size go through the head in batches, as a GPU likes it; else each by itself.

    Raises:
        Failure: the disk is full, or the output folder can't be written; or the engine's.
    """
    out = out.absolute()  # another worker's working directory may be another
    record = Record(out)
    outcome = Outcome(0, 0, {}, {})
    how = how or Encoding()
    made_with = _made_with(head, wanted, how, label)

    def full(reason: str | None) -> Failure:
        return Failure(
            f"can't write to {out}: {reason}; {outcome.enhanced + outcome.skipped} of {len(jobs)} images are "
            "done, the same command goes on from there"
        )

    try:
        with record.saved():
            record.plan(job.target for job in jobs)
            units = [
                EnhanceTask(
                    replace(job, mask=job.mask and job.mask.absolute()),
                    job.source.absolute(),
                    out / job.target,
                    made_with,
                    record.files[job.target.as_posix()],
                    wanted,
                    how,
                    label,
                )
                for job in jobs
            ]
            batches = by_size(units, _size) if together else [[unit] for unit in units]
            tasks = [EnhanceBatch(tuple(some)) for some in batches]
            tool = partial(SharedEnhancer, enhancer) if remake is enhance_bytes else enhancer
            seen: set[Path] = set()  # a killed worker's image may come twice
            with (
                progress("enhancing", len(jobs)) as bar,
                closing(engine(tasks, tool, partial(enhance_batch, remake=remake))) as results,
            ):
                for result in results:
                    job = result.job
                    if result.full is not None:
                        raise full(result.full)
                    if job.target in seen:
                        continue
                    seen.add(job.target)
                    if result.failure is not None:
                        outcome.failures[job.source] = result.failure
                    elif result.entry is None:
                        outcome.skipped += 1
                    else:
                        record.note(job.target, result.entry)
                        outcome.enhanced += 1
                    if result.notes:
                        outcome.notes[job.source] = result.notes
                    bar.advance()
    except OSError as error:
        raise full(error.strerror) from error
    return outcome


def is_done(
    record: Record,
    job: EnhanceJob,
    head: dict[str, str],
    wanted: Change,
    how: Encoding | None = None,
    label: Label | None = None,
) -> bool:
    """`enhance_files` would skip the job; what can't be read it would not."""
    try:
        read = _hashes(job.source.read_bytes(), job.mask.read_bytes() if job.mask else None)
    except OSError:
        return False
    return record.holds(job.target, _made_with(head, wanted, how or Encoding(), label) | read)


def _hashes(source: bytes, mask: bytes | None) -> dict[str, str]:
    """What the record says of the files that one was made of."""
    read = {"source": sha256(source).hexdigest()}
    return read if mask is None else read | {"mask": sha256(mask).hexdigest()}


def _made_with(head: dict[str, str], wanted: Change, how: Encoding, label: Label | None) -> dict[str, Any]:
    """What the record says of a file; of how it was written, what differs from how it is written unless told."""
    told = {key: value for key, value in asdict(how).items() if value not in (None, False)}
    marked = label.told() if label and wanted.strength else {}  # what nothing is done to is not marked
    return {**head, **wanted.told(), **told, **marked}


def check_settings(
    record: Record,
    jobs: Sequence[EnhanceJob],
    head: dict[str, str],
    wanted: Change,
    how: Encoding | None = None,
    label: Label | None = None,
) -> None:
    """What the jobs would replace was made with the same.

    Args:
        record: of the output folder.
        head: as `enhance_files` takes it, and so the others. Its weights count: a head may be called by several names.

    Raises:
        UsageError: a target is there that was made with others.
    """
    made_with = _made_with(head, wanted, how or Encoding(), label)
    asked = {key: value for key, value in made_with.items() if key != "head"}
    for job in jobs:
        entry = record.files.get(job.target.as_posix(), {})
        known = {key: value for key, value in entry.items() if key not in ("head", "source", "mask", "result")}
        if not known or not (record.out / job.target).exists():
            continue
        same_mask = entry.get("mask") == (job.mask and sha256(job.mask.read_bytes()).hexdigest())
        if known != asked or not same_mask:
            made_by = f"{entry.get('head')} at strength {entry.get('strength')}"
            rest = {key: value for key, value in known.items() if key not in ("weights", "strength", "fold")}
            made_by += "".join(f", {key.replace('_', ' ')} {value}" for key, value in rest.items())
            if known == {key: value for key, value in asked.items() if key != "marked"}:
                made_by += ", and says nothing of it (as with --no-provenance)"
            if not same_mask:
                made_by += ", with another --mask" if "mask" in entry else ", without --mask"
            raise UsageError(
                f"{record.out / job.target} was made by {made_by}: choose another folder for -o, or replace it with "
                "--overwrite"
            )


@dataclass(frozen=True)
class EnhanceTask:
    """A job as a worker gets it."""

    job: EnhanceJob
    source: Path
    target: Path
    made_with: dict[str, Any]
    known: dict[str, Any]
    """What the record holds of the target."""
    wanted: Change
    how: Encoding
    label: Label | None = None

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True)
class ImageResult:
    """What became of a job, by the field that is set: entry (made), failure, full (a disk that takes no more); none:
    done before."""

    job: EnhanceJob
    entry: dict[str, Any] | None = None
    notes: str = ""
    failure: str | None = None
    full: str | None = None


@dataclass(frozen=True)
class EnhanceBatch:
    """What a worker takes at a time: an image, or several of one size that go through the head together."""

    units: tuple[EnhanceTask, ...]

    def __str__(self) -> str:
        first, *others = self.units
        return f"{first} and {len(others)} others" if others else str(first)


def _size(unit: EnhanceTask) -> tuple[int, int] | None:
    try:
        return size_of(unit.source)
    except Exception:  # `enhance_file` says what is wrong with it
        return None


def runs_alone(batch: EnhanceBatch) -> bool:
    """An image that is too large to run in one piece: beside others it would take their memory, and minutes."""
    width, height = _size(batch.units[0]) or (0, 0)
    return width * height > WHOLE


def enhance_batch(
    batch: EnhanceBatch, enhancer: Any, remake: Callable[..., Enhanced] = enhance_bytes
) -> Iterator[ImageResult]:
    """Enhance the images of a batch, as `enhance_file` does; of several all go through the head, if one isn't done.

    A GPU may round otherwise where a batch has another size: so what is done anew has the bytes that it had.
    """
    units = batch.units
    if len(units) == 1:
        yield from enhance_file(units[0], enhancer, remake)
        return
    if all(map(_is_held, units)):
        yield from (ImageResult(unit.job) for unit in units)
        return
    joint = Together(enhancer, len(units))

    def enhanced(member: int) -> list[ImageResult]:
        try:
            return list(enhance_file(units[member], partial(joint.ask, member), remake, anew=True))
        finally:
            joint.leave()

    with ThreadPoolExecutor(len(units)) as pool:  # all at once: they wait for one another
        futures = [pool.submit(enhanced, member) for member in range(len(units))]
        for future in futures:
            yield from future.result()


def _is_held(unit: EnhanceTask) -> bool:
    try:
        return holds(unit.target, unit.known, _read(unit)[2])
    except OSError:
        return False


def _read(unit: EnhanceTask) -> tuple[bytes, bytes | None, dict[str, Any]]:
    """An image, its mask, and what it is made with, both among it."""
    data = unit.source.read_bytes()
    mask = unit.job.mask.read_bytes() if unit.job.mask else None
    return data, mask, unit.made_with | _hashes(data, mask)


def enhance_file(
    unit: EnhanceTask, enhancer: Any, remake: Callable[..., Enhanced] = enhance_bytes, anew: bool = False
) -> Iterator[ImageResult]:
    """Enhance one image, unless its target is there, whole and made with the same.

    Args:
        enhancer: a `SharedEnhancer`, or what else `remake` takes.
        remake: makes the file's bytes with it, as `enhance_bytes` does.
        anew: run it through the head even if it is there, for those that go with it.

    Raises:
        UsageError: the head can't be used.
    """
    job = unit.job
    try:
        data, mask, made_with = _read(unit)
        held = holds(unit.target, unit.known, made_with)
        if held and not anew:
            yield ImageResult(job)
            return
        # A JPEG that is called .gif becomes what its new name says.
        renamed = unit.source.suffix.lower() in READ_ONLY_ENDINGS and unit.how.format is None
        # --quality is for those of its folder that lose something.
        how = replace(unit.how, format="PNG", quality=None) if renamed else unit.how
        same_kind = unit.source.suffix.lower() == unit.target.suffix.lower()
        made = remake(data, enhancer, unit.wanted, how, same_kind, unit.label, mask)
        if held:  # it went along for the others of its batch
            yield ImageResult(job)
            return
        try:
            entry = write(unit.target, made.data, made_with)
        except OSError as error:
            if error.errno not in REFUSED:  # a name that is too long, for one
                raise
            yield ImageResult(job, full=error.strerror)
            return
        yield ImageResult(job, entry, ", ".join(made.notes))
    except ImageError as error:
        yield ImageResult(job, failure=str(error))
    except (UsageError, Failure):
        raise  # the head, a package or the service, not the image
    except OSError as error:
        yield ImageResult(job, failure=error.strerror or first_line(error))
    except Exception as error:  # whatever it is, one bad file never stops the rest
        yield ImageResult(job, failure=f"failed: {first_line(error)}")
