"""Draws pairs data sets, shard by shard: the unit of work is `draw_shard`, an engine says who calls it, and where."""

import csv
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from undistill.base.engines import Engine
from undistill.base.errors import Failure, UsageError, naming
from undistill.base.files import PART, AnyPath, replacing
from undistill.base.lock import locked
from undistill.base.progress import progress
from undistill.base.threads import spread
from undistill.dataset.shard import (
    DESCRIPTION,
    Description,
    PairRow,
    finished_shards,
    read_description,
    shard_numbers,
    shard_path,
)
from undistill.dataset.write import shard_writer, write_description
from undistill.images import Pixels, png
from undistill.pairs.spec import PairSpec, make_spec
from undistill.prompts import PROMPTS_FILE, Prompt, as_lines

TIMINGS = "timings.csv"
"""What each batch took, beside the shards."""

ENCODERS = 2
"""Threads that encode one batch each while the next is drawn."""


class PairGenerator(Protocol):
    """What draws pairs: the part of `undistill.pairs.generator.Generator` that this module uses."""

    def student(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        """The student's images, (N, size, size, 3) uint8."""

    def teacher(self, prompts: Sequence[str], seeds: Sequence[int], images: Pixels) -> Pixels:
        """What the teacher makes of the student's images, in the same shape."""


GeneratorMaker = Callable[[], PairGenerator]
"""Makes the generator, in each worker: it has to be importable there, like `partial(Generator, spec, device)`."""


@dataclass(frozen=True)
class DrawJob:
    """A shard to draw."""

    path: AnyPath
    """Where it goes."""
    prompts: Sequence[Prompt]
    """Those of its rows."""
    spec: str
    """Hash of the pair spec."""
    batch: int
    """Images at a time."""

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Timing:
    """What a batch took. The first one of a process includes loading the teacher."""

    shard: str
    first: str
    """Id of the batch's first row."""
    images: int
    """A side."""
    student_s: float
    teacher_s: float


def read_timings(path: Path) -> list[Timing]:
    """The lines of a `timings.csv`; of a batch that was drawn again, the last one.

    Raises:
        UsageError: it can't be read, or there is none in it.
    """
    batches: dict[tuple[str, str], Timing] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                timing = Timing(
                    row["shard"], row["first"], int(row["images"]), float(row["student_s"]), float(row["teacher_s"])
                )
                if timing.images < 1 or not 0 < timing.student_s + timing.teacher_s < inf:
                    raise ValueError
                batches[timing.shard, timing.first] = timing
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{path} is no {TIMINGS} of `undistill pairs create`") from error
    if not batches:
        raise UsageError(f"{path} says nothing yet: draw some pairs first")
    return list(batches.values())


def describe(spec: PairSpec, prompts: Sequence[Prompt], lines: bytes, shard_size: int, batch: int) -> Description:
    """The description of the data set that these make; `lines`: the prompts as they are written."""
    return Description(
        version=1,
        pair=spec.model_dump(mode="json", exclude_defaults=True),
        spec=spec.hash(),
        prompts=sha256(lines).hexdigest(),
        rows=len(prompts),
        shard_size=shard_size,
        batch=batch,
    )


def create(
    prompts: Sequence[Prompt],
    out: AnyPath,
    spec: PairSpec,
    maker: GeneratorMaker,
    shard_size: int,
    batch: int,
    engine: Engine,
) -> tuple[int, int]:
    """Draw a pairs data set (format: `undistill.dataset.shard`); shards that are there are kept.

    Interrupted or killed anywhere and called again, it ends with the same bytes (`timings.csv` aside), by any
    engine with any number of workers, on the same kind of machine. Called with more prompts, of which those of the
    data set are the first, it goes on to them: with the bytes of a data set of all of them. Only a last shard that was
    not full is drawn again.

    Args:
        shard_size: rows a shard.
        batch: images drawn at a time, counted anew in each shard.
        engine: who draws, one shard at a time each: `undistill.base.engines`.

    Returns:
        How many pairs were drawn, and how many were there before.

    Raises:
        UsageError: `out` holds something else, another pair's shards or those of other prompts.
        Failure: the weights can't be had, memory or disk are too small, or a worker was killed.
    """
    lines = as_lines(prompts)
    description = describe(spec, prompts, lines, shard_size, batch)
    if isinstance(out, Path):
        out = out.absolute()  # another worker's working directory may be another
    with locked(out):
        done = _open_data_set(out, description, lines)
        left = [number for number in range(description.shards) if number not in done]
        draw_shards(out, description, prompts, left, maker, engine)
    drawn = sum(len(description.span(number)) for number in left)
    return drawn, len(prompts) - drawn


def _open_data_set(out: AnyPath, description: Description, lines: bytes) -> list[int]:
    """Description and prompts, before the first shard; returns the shards that are there."""
    done: list[int] = []
    same = False
    if (out / DESCRIPTION).exists():
        there = read_description(out)
        changes = _changes(there, description)
        if changes == [_other_prompts(there)] and _begins_with(lines, there):
            _drop_last(out, there)
            changes = []
        done = finished_shards(out, there if changes else description)
        if done and changes:
            raise UsageError(f"{out} holds pairs with {', '.join(changes)}: choose another folder for -o")
        # Name and head of a pair change nothing about its images.
        same = there.model_copy(update={"pair": description.pair}) == description and _spec_hash(there) == there.spec
    elif shard_numbers(out):
        raise UsageError(f"{out} holds shards, but no {DESCRIPTION}: `undistill pairs recover {out}` makes it anew")
    elif any(path.name != f".{DESCRIPTION}{PART}" for path in out.glob("*")):
        raise UsageError(f"{out} holds something else: choose a new folder for -o")
    if not same:  # nothing is drawn yet: a first try with a wrong option must not block the second
        write_description(out, description)
    file = out / PROMPTS_FILE
    if not file.exists() or file.read_bytes() != lines:
        with replacing(file) as beside:
            beside.write_bytes(lines)
    return done


def _spec_hash(there: Description) -> str | None:
    try:
        return make_spec(there.pair).hash()
    except UsageError:
        return None


def _begins_with(lines: bytes, there: Description) -> bool:
    """Whether the first of the prompts are those of the data set, all of them."""
    first = b"".join(line + b"\n" for line in lines.split(b"\n")[: there.rows])
    return sha256(first).hexdigest() == there.prompts


def _drop_last(out: AnyPath, there: Description) -> None:
    """Take a last shard away that isn't full: with more prompts it has more rows.

    Before the description changes: killed in between, the data set is one with a shard to draw.
    """
    last = there.rows // there.shard_size
    if last in finished_shards(out, there) and len(there.span(last)) < there.shard_size:
        shard_path(out, last).unlink()


def _other_prompts(there: Description) -> str:
    return f"other prompts ({there.rows} of them)"


def _changes(there: Description, wanted: Description) -> list[str]:
    changes = []
    if there.spec != wanted.spec:
        changes.append(f"another pair spec ({there.pair.get('name')})")
    if there.prompts != wanted.prompts:
        changes.append(_other_prompts(there))
    if there.shard_size != wanted.shard_size:
        changes.append(f"--shard-size {there.shard_size}")
    if there.batch != wanted.batch:
        changes.append(f"--batch {there.batch}")
    return changes


def draw_shard(job: DrawJob, generator: PairGenerator) -> Iterator[Timing]:
    """Draw one shard: on this machine or another, the bytes depend on the job alone.

    Yields:
        Of each batch, what it took. The shard is there when no more comes.

    Raises:
        Failure: it can't be written; or the generator's.
    """
    try:
        with (
            shard_writer(job.path, job.spec) as write,
            closing(spread(_encode, _draw(job, generator), ENCODERS)) as batches,
        ):
            for rows, timing in batches:
                for row in rows:
                    write(row)
                yield timing
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # pyarrow says more than is of use
        raise Failure(f"can't write {job.path}: {reason}; with that put right, the same command goes on") from error


Drawn = tuple[Sequence[Prompt], Pixels, Pixels, Timing]
"""A batch: its prompts, and the images of student and teacher."""


def _draw(job: DrawJob, generator: PairGenerator) -> Iterator[Drawn]:
    for first in range(0, len(job.prompts), job.batch):
        some = job.prompts[first : first + job.batch]
        texts, seeds = [prompt.prompt for prompt in some], [prompt.seed for prompt in some]
        start = time.perf_counter()
        students = generator.student(texts, seeds)
        middle = time.perf_counter()
        teachers = generator.teacher(texts, seeds, students)
        end = time.perf_counter()
        yield some, students, teachers, Timing(job.path.name, some[0].id, len(some), middle - start, end - middle)


def _encode(drawn: Drawn) -> tuple[list[PairRow], Timing]:
    *batch, timing = drawn
    return [
        PairRow(prompt.id, prompt.prompt, prompt.name, prompt.seed, png(student), png(teacher))
        for prompt, student, teacher in zip(*batch, strict=True)
    ], timing


def draw_shards(
    out: AnyPath,
    description: Description,
    prompts: Sequence[Prompt],
    numbers: Sequence[int],
    maker: GeneratorMaker,
    engine: Engine,
) -> None:
    """Draw some shards of a data set; progress is shown, and each batch logged in `timings.csv`.

    Args:
        prompts: those of all its rows.
        numbers: which shards.

    Raises:
        UsageError, Failure: see `create`.
    """
    if not numbers:
        return
    spans = {number: description.span(number) for number in numbers}
    jobs = [
        DrawJob(shard_path(out, number), prompts[span.start : span.stop], description.spec, description.batch)
        for number, span in spans.items()
    ]
    seen: set[str] = set()  # first rows of batches: a killed worker's are drawn twice
    with (
        _no_parts(out),
        _log(out / TIMINGS) as log,
        progress("drawing", description.rows, description.rows - sum(map(len, spans.values()))) as bar,
        closing(engine(jobs, maker, draw_shard)) as timings,
    ):
        for timing in timings:
            log(timing)
            if timing.first not in seen:
                seen.add(timing.first)
                bar.advance(by=timing.images)


@contextmanager
def _no_parts(folder: AnyPath) -> Iterator[None]:
    """Takes away what stopped workers leave half written."""
    try:
        yield
    finally:
        for part in folder.glob(f".shard-*{PART}") if isinstance(folder, Path) else ():
            part.unlink(missing_ok=True)


@contextmanager
def _log(path: AnyPath) -> Iterator[Callable[[Timing], None]]:
    """Adds lines to a CSV file; to one in an object store, which can't be added to, when all of them are there."""
    if not isinstance(path, Path):
        with TemporaryDirectory(prefix="undistill-") as folder:
            copy = Path(folder) / path.name
            if path.exists():
                copy.write_bytes(path.read_bytes())
            try:
                with _log(copy) as log_copy:
                    yield log_copy
            finally:
                with replacing(path) as beside:
                    copy.replace(beside)
        return
    with naming(path), path.open("a+b") as old:
        old.seek(0)
        whole = old.read().rfind(b"\n") + 1  # a full disk may have cut the last line
        old.truncate(whole)

    def add(cells: Sequence[object]) -> None:
        with naming(path), path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)

    def log(timing: Timing) -> None:
        values = [round(value, 4) if isinstance(value, float) else value for value in astuple(timing)]
        add([datetime.now(UTC).isoformat(timespec="seconds"), *values])

    if not whole:
        add(["ended", *(field.name for field in fields(Timing))])
    yield log
