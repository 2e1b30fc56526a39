"""Enhance files and folders: same place, same format, metadata kept, nothing overwritten, resumable."""

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from undistill.dataset.split import within
from undistill.enhance.enhancer import Enhancer
from undistill.errors import Failure, UsageError, first_line
from undistill.images import EXTENSIONS, ImageError, decode, encode, list_images
from undistill.progress import progressed
from undistill.record import Record


@dataclass(frozen=True)
class Job:
    """An image to read, and where its enhanced twin goes, relative to the output folder."""

    source: Path
    target: Path


@dataclass
class Outcome:
    """What became of the jobs: how many were enhanced and skipped, what was changed on the way, and what failed."""

    enhanced: int
    skipped: int
    notes: dict[Path, str]
    failures: dict[Path, str]


def list_jobs(inputs: Sequence[Path], out: Path, split: tuple[float, float] = (0.0, 1.0)) -> list[Job]:
    """Jobs for files and for all images below folders. An image's id for the split is its name without ending.

    Raises:
        UsageError: an input is missing or no image, two would become one file, or a file would be overwritten that is
            an input or that we have not made.
    """
    jobs: list[Job] = []
    ours = {(out / name).resolve() for name in Record(out).files}
    for path in inputs:
        if path.is_dir():
            # Results of an earlier run may lie below the input folder.
            jobs += [Job(image, image.relative_to(path)) for image in list_images(path) if image.resolve() not in ours]
        elif not path.exists():
            raise UsageError(f"{path} does not exist")
        elif path.suffix.lower() not in EXTENSIONS:
            raise UsageError(f"{path}: can't enhance {path.suffix or 'a file without ending'}, only {_endings()}")
        else:
            jobs.append(Job(path, Path(path.name)))
    if not jobs:
        raise UsageError(f"{', '.join(map(str, inputs))}: no image inside ({_endings()})")
    jobs = [job for job in jobs if within(job.source.stem, split)]
    if not jobs:
        raise UsageError(f"no image of {', '.join(map(str, inputs))} falls into the split {split[0]:g}:{split[1]:g}")
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = (out / job.target).resolve()
        if target in sources:
            raise UsageError(f"{job.source} would be overwritten: choose another folder for -o")
        if target.exists() and target not in ours:
            raise UsageError(f"{out / job.target} is there and not made by undistill: choose another folder for -o")
        if target in taken and taken[target] != job.source:
            raise UsageError(f"{taken[target]} and {job.source} would both become {out / job.target}: run them apart")
        taken[target] = job.source
    return list({job.target: job for job in jobs}.values())


def enhance_files(
    jobs: Sequence[Job],
    out: Path,
    enhancer: Callable[[], Enhancer],
    head: dict[str, str],
    strength: float,
) -> Outcome:
    """Work through the jobs; those that `out` holds already, whole and with this head and strength, are skipped.

    Args:
        enhancer: makes the enhancer when the first image needs it.
        head: name and hash of the head, for the record.

    Raises:
        Failure: the disk is full, or the output folder can't be written.
    """
    record = Record(out)
    outcome = Outcome(0, 0, {}, {})
    ready: Enhancer | None = None
    try:
        record.plan(job.target for job in jobs)
        for job in progressed("enhancing", jobs):
            try:
                data = job.source.read_bytes()
                wanted = {**head, "strength": strength, "source": sha256(data).hexdigest()}
                if record.holds(job.target, wanted):
                    outcome.skipped += 1
                    continue
                picture = decode(BytesIO(data))
                ready = ready or enhancer()
                result = encode(picture, ready(picture.pixels, strength))
                record.write(job.target, result, wanted)
                outcome.enhanced += 1
                if picture.notes:
                    outcome.notes[job.source] = ", ".join(picture.notes)
            except ImageError as error:
                outcome.failures[job.source] = str(error)
            except UsageError:
                raise  # the head, not the image
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                    raise
                outcome.failures[job.source] = error.strerror or first_line(error)
            except Exception as error:  # whatever it is, one bad file never stops the rest
                outcome.failures[job.source] = f"failed: {first_line(error)}"
    except OSError as error:
        raise Failure(
            f"can't write to {out}: {error.strerror}; {outcome.enhanced + outcome.skipped} of {len(jobs)} images are "
            "done, the same command goes on from there"
        ) from error
    finally:
        with suppress(OSError):  # of a full disk we have spoken
            record.save()
    return outcome


def _endings() -> str:
    return ", ".join(sorted(EXTENSIONS))
