"""Enhance files and folders: same place, same format, metadata kept, nothing overwritten, resumable."""

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from undistill.base.engines import Engine
from undistill.base.engines.local import in_process
from undistill.base.errors import Failure, UsageError, first_line
from undistill.base.progress import progress
from undistill.base.record import Record, holds, write
from undistill.base.settings import read_yaml
from undistill.dataset import fold_folder, fold_split, parse_split, within
from undistill.enhance.enhancer import Enhancer
from undistill.images import EXTENSIONS, ImageError, decode, encode, list_images


@dataclass(frozen=True)
class EnhanceJob:
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

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.enhanced + other.enhanced,
            self.skipped + other.skipped,
            self.notes | other.notes,
            self.failures | other.failures,
        )


@dataclass(frozen=True)
class Fold:
    """A head of `undistill train --folds`, and the ids that it has not seen.

    Args:
        name: which of how many, like 2/5, for the record.
        ids: a range of their hash.
    """

    name: str
    head: Path
    ids: tuple[float, float]


def read_folds(run: Path) -> list[Fold]:
    """The folds of a run.

    Raises:
        UsageError: they are not all there, or not of one training.
    """
    if not (fold_folder(run, 0) / "recipe.yaml").exists():
        raise UsageError(f"{run} holds no folds: undistill train ... -o {run} --folds 5 makes them")
    count = round(1 / _held_out(fold_folder(run, 0))[1])
    folds, steps = [], set()
    for number in range(count):
        folder, ids = fold_folder(run, number), fold_split(number, count)
        if not (folder / "head" / "metrics.json").exists():
            raise UsageError(f"{folder} has no head: run undistill train ... -o {run} --folds {count} to its end")
        if max(abs(a - b) for a, b in zip(_held_out(folder), ids, strict=True)) > 1e-6:
            raise UsageError(f"{folder} is not fold {number} of {count}: another number of folds was begun in {run}")
        steps.add(json.loads((folder / "head" / "metrics.json").read_text())["step"])
        folds.append(Fold(f"{number}/{count}", folder / "head", ids))
    if len(steps) > 1:
        raise UsageError(
            f"the heads of {run} stand at different steps: run undistill train ... --folds {count} to its end"
        )
    return folds


def _held_out(run: Path) -> tuple[float, float]:
    try:
        return parse_split(read_yaml(run / "recipe.yaml")["data"]["val"])
    except (KeyError, TypeError) as error:
        raise UsageError(f"{run / 'recipe.yaml'} is not the recipe of a fold") from error


def list_jobs(inputs: Sequence[Path], out: Path, split: tuple[float, float] = (0.0, 1.0)) -> list[EnhanceJob]:
    """Jobs for files and for all images below folders. An image's id for the split is its name without ending.

    Raises:
        UsageError: an input is missing or no image, two would become one file, or a file would be overwritten that is
            an input or that we have not made.
    """
    jobs: list[EnhanceJob] = []
    found = 0
    ours = {(out / name).resolve() for name in Record(out).files}
    for path in inputs:
        if path.is_dir():
            images = list_images(path)
            made = ours | _enhanced_below(path, images)
            jobs += [EnhanceJob(image, image.relative_to(path)) for image in images if image.resolve() not in made]
            found += len(images)
        elif not path.exists():
            raise UsageError(f"{path} does not exist")
        elif path.suffix.lower() not in EXTENSIONS:
            raise UsageError(f"{path}: can't enhance {path.suffix or 'a file without ending'}, only {_endings()}")
        else:
            jobs.append(EnhanceJob(path, Path(path.name)))
    if not jobs:
        hint = "but what undistill made: name its folder itself" if found else f"({_endings()})"
        raise UsageError(f"{', '.join(map(str, inputs))}: no image inside {hint}")
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


def _enhanced_below(folder: Path, images: Sequence[Path]) -> set[Path]:
    """What earlier runs made in folders below it that hold these images: no inputs, unless such a folder is given."""
    made: set[Path] = set()
    for below in {parent for image in images for parent in image.relative_to(folder).parents} - {Path()}:
        out = folder / below
        with suppress(UsageError):  # a record that can't be read: of `out` itself we have spoken
            made |= {(out / name).resolve() for name, entry in Record(out).files.items() if "source" in entry}
    return made


def enhance_files(
    jobs: Sequence[EnhanceJob],
    out: Path,
    enhancer: Callable[[], Enhancer],
    head: dict[str, str],
    strength: float,
    engine: Engine = in_process,
) -> Outcome:
    """Work through the jobs; those that `out` holds already, whole and with this head and strength, are skipped.

    Args:
        enhancer: makes the enhancer when a worker's first image needs it.
        head: name and hash of the head, for the record.
        engine: who enhances, one image at a time each: `undistill.base.engines`.

    Raises:
        Failure: the disk is full, or the output folder can't be written; or the engine's.
    """
    out = out.absolute()  # another worker's working directory may be another
    record = Record(out)
    outcome = Outcome(0, 0, {}, {})
    made_with = {**head, "strength": strength}

    def full(reason: str | None) -> Failure:
        return Failure(
            f"can't write to {out}: {reason}; {outcome.enhanced + outcome.skipped} of {len(jobs)} images are "
            "done, the same command goes on from there"
        )

    try:
        record.plan(job.target for job in jobs)
        units = [
            EnhanceTask(job, job.source.absolute(), out / job.target, made_with, record.files[job.target.as_posix()])
            for job in jobs
        ]
        seen: set[Path] = set()  # a killed worker's image may come twice
        with (
            progress("enhancing", len(jobs)) as bar,
            closing(engine(units, partial(cache, enhancer), enhance_file)) as results,
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
    finally:
        with suppress(OSError):  # of a full disk we have spoken
            record.save()
    return outcome


def check_settings(record: Record, jobs: Sequence[EnhanceJob], head: dict[str, str], strength: float) -> None:
    """What the jobs would replace was made with this head and strength.

    Args:
        record: of the output folder.
        head: as `enhance_files` takes it. Its weights count: a head may be called by several names.

    Raises:
        UsageError: a target is there that was made with others.
    """
    wanted = {"strength": strength, **{key: value for key, value in head.items() if key != "head"}}
    for job in jobs:
        entry = record.files.get(job.target.as_posix(), {})
        known = {key: value for key, value in entry.items() if key not in ("head", "source", "result")}
        if known and known != wanted and (record.out / job.target).exists():
            made_by = f"{entry.get('head')} at strength {entry.get('strength')}"
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

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True)
class ImageResult:
    """What became of a job, by the field that is set: entry (made), failure, full (a disk); none: done before."""

    job: EnhanceJob
    entry: dict[str, Any] | None = None
    notes: str = ""
    failure: str | None = None
    full: str | None = None


def enhance_file(unit: EnhanceTask, enhancer: Callable[[], Enhancer]) -> Iterator[ImageResult]:
    """Enhance one image, unless its target is there, whole and made with the same.

    Args:
        enhancer: gives the enhancer, the same each time.

    Raises:
        UsageError: the head can't be used.
    """
    job = unit.job
    try:
        data = unit.source.read_bytes()
        wanted = {**unit.made_with, "source": sha256(data).hexdigest()}
        if holds(unit.target, unit.known, wanted):
            yield ImageResult(job)
            return
        picture = decode(BytesIO(data))
        result = encode(picture, enhancer()(picture.pixels, unit.made_with["strength"]))
        yield ImageResult(job, write(unit.target, result, wanted), ", ".join(picture.notes))
    except ImageError as error:
        yield ImageResult(job, failure=str(error))
    except UsageError:
        raise  # the head, not the image
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            yield ImageResult(job, full=os.strerror(error.errno))
        else:
            yield ImageResult(job, failure=error.strerror or first_line(error))
    except Exception as error:  # whatever it is, one bad file never stops the rest
        yield ImageResult(job, failure=f"failed: {first_line(error)}")


def _endings() -> str:
    return ", ".join(sorted(EXTENSIONS))
