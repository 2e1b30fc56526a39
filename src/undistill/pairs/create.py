"""Draws pairs data sets, shard by shard, in several processes: the unit of work is `draw_shard`."""

import csv
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import torch

from undistill.atomic import PART, replacing
from undistill.dataset.shard import DESCRIPTION, Description, Row, finished, read_description, shard_path
from undistill.dataset.write import alone, write_description, write_shard
from undistill.errors import Failure, UsageError
from undistill.images import Picture, Pixels, encode
from undistill.pairs.spec import PairSpec
from undistill.progress import progress
from undistill.prompts import Prompt, as_lines

PROMPTS, TIMINGS = "prompts.jsonl", "timings.csv"
_PATIENCE_S = 10.0


class Sides(Protocol):
    """What is asked of a `Generator`."""

    def student(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels: ...
    def teacher(self, prompts: Sequence[str], seeds: Sequence[int], images: Pixels) -> Pixels: ...


Maker = Callable[[], Sides]
"""Makes the generator, in each worker: it has to be importable there, like `partial(Generator, spec, device)`."""


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


def create(
    prompts: Sequence[Prompt], out: Path, spec: PairSpec, maker: Maker, shard_size: int, batch: int, workers: int
) -> tuple[int, int]:
    """Draw a pairs data set (format: `undistill.dataset.shard`); shards that are there are kept.

    Interrupted or killed anywhere and called again, it ends with the same bytes (`timings.csv` aside), with any number
    of workers, on the same kind of machine.

    Args:
        shard_size: rows a shard.
        batch: images drawn at a time, counted anew in each shard.
        workers: processes, each with one thread of torch.

    Returns:
        How many pairs were drawn, and how many were there before.

    Raises:
        UsageError: `out` holds something else, another pair's shards or those of other prompts.
        Failure: the weights can't be had, memory or disk are too small, or a worker was killed.
    """
    lines = as_lines(prompts)
    description = Description(
        version=1,
        pair=spec.model_dump(mode="json", exclude_defaults=True),
        spec=spec.hash(),
        prompts=sha256(lines).hexdigest(),
        rows=len(prompts),
        shard_size=shard_size,
        batch=batch,
    )
    out.mkdir(parents=True, exist_ok=True)
    with alone(out):
        done = _begin(out, description, lines)
        left = [number for number in range(description.shards) if number not in done]
        draw_shards(out, description, prompts, left, maker, workers)
    drawn = sum(len(description.span(number)) for number in left)
    return drawn, len(prompts) - drawn


def _begin(out: Path, description: Description, lines: bytes) -> list[int]:
    """Description and prompts, before the first shard; returns the shards that are there."""
    done: list[int] = []
    same = False
    if (out / DESCRIPTION).exists():
        there = read_description(out)
        done = finished(out, there)
        changes = _changes(there, description)
        if done and changes:
            raise UsageError(f"{out} holds pairs with {changes}: choose another folder for -o")
        same = not changes
    elif any(path.name != f".{DESCRIPTION}{PART}" for path in out.iterdir()):
        raise UsageError(f"{out} holds something else: choose a new folder for -o")
    if not same:  # nothing is drawn yet: a first try with a wrong option must not block the second
        write_description(out, description)
    file = out / PROMPTS
    if not file.exists() or file.read_bytes() != lines:
        with replacing(file) as beside:
            beside.write_bytes(lines)
    return done


def _changes(there: Description, wanted: Description) -> str:
    changes = []
    if there.spec != wanted.spec:
        changes.append(f"another pair spec ({there.pair.get('name')})")
    if there.prompts != wanted.prompts:
        changes.append(f"other prompts ({there.rows} of them)")
    if there.shard_size != wanted.shard_size:
        changes.append(f"--shard-size {there.shard_size}")
    if there.batch != wanted.batch:
        changes.append(f"--batch {there.batch}")
    return ", ".join(changes)


def draw_shard(
    path: Path, prompts: Sequence[Prompt], generator: Sides, spec: str, batch: int, drawn: Callable[[Timing], None]
) -> None:
    """Draw one shard: on this machine or another, the bytes depend on the arguments alone.

    Args:
        path: where it goes.
        prompts: those of its rows.
        spec: hash of the pair spec.
        batch: images at a time.
        drawn: is told of each batch.
    """

    def rows() -> Iterator[Row]:
        for first in range(0, len(prompts), batch):
            some = prompts[first : first + batch]
            texts, seeds = [prompt.prompt for prompt in some], [prompt.seed for prompt in some]
            start = time.perf_counter()
            students = generator.student(texts, seeds)
            middle = time.perf_counter()
            teachers = generator.teacher(texts, seeds, students)
            end = time.perf_counter()
            for prompt, student, teacher in zip(some, students, teachers, strict=True):
                yield Row(prompt.id, prompt.prompt, prompt.name, prompt.seed, _png(student), _png(teacher))
            drawn(Timing(path.name, some[0].id, len(some), middle - start, end - middle))

    write_shard(path, rows(), spec)


def _png(pixels: Pixels) -> bytes:
    return encode(Picture(pixels, None, "PNG"), pixels)


def draw_shards(
    out: Path, description: Description, prompts: Sequence[Prompt], numbers: Sequence[int], maker: Maker, workers: int
) -> None:
    """Draw some shards of a data set in worker processes; progress is shown, and each batch logged in `timings.csv`.

    Args:
        prompts: those of all its rows.
        numbers: which shards.

    Raises:
        UsageError, Failure: see `create`.
    """
    if not numbers:
        return
    left = deque(numbers)

    def order(line: Connection) -> None:
        number = left.popleft()
        span = description.span(number)
        path, some = shard_path(out, number), prompts[span.start : span.stop]
        try:
            line.send((path, some, description.spec, description.batch))
        except ConnectionError:
            raise Failure(_death(hired[line])) from None

    done = description.rows - sum(len(description.span(number)) for number in numbers)
    with (
        _no_parts(out),
        _log(out / TIMINGS) as log,
        progress("drawing", description.rows, done) as bar,
        _hired(min(workers, len(numbers)), maker) as hired,
    ):
        for line in hired:
            order(line)
        at_work = list(hired)
        while at_work:
            ready: list[Any] = wait(at_work)
            for line in ready:
                try:
                    said = line.recv()
                except (EOFError, ConnectionError):
                    raise Failure(_death(hired[line])) from None
                if isinstance(said, Exception):
                    raise said
                if isinstance(said, Timing):
                    log(said)
                    for _ in range(said.images):
                        bar.advance()
                elif left:
                    order(line)
                else:
                    at_work.remove(line)


@contextmanager
def _no_parts(folder: Path) -> Iterator[None]:
    """Takes away what stopped workers leave half written."""
    try:
        yield
    finally:
        for part in folder.glob(f".shard-*{PART}"):
            part.unlink(missing_ok=True)


@contextmanager
def _log(path: Path) -> Iterator[Callable[[Timing], None]]:
    """Adds lines to a CSV file."""
    with path.open("a+b") as old:
        old.seek(0)
        whole = old.read().rfind(b"\n") + 1  # a full disk may have cut the last line
        old.truncate(whole)
    with path.open("a", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        if not whole:
            lines.writerow(["ended", *(field.name for field in fields(Timing))])

        def log(timing: Timing) -> None:
            values = [round(value, 4) if isinstance(value, float) else value for value in astuple(timing)]
            lines.writerow([datetime.now(UTC).isoformat(timespec="seconds"), *values])
            file.flush()

        yield log


@contextmanager
def _hired(count: int, maker: Maker) -> Iterator[dict[Connection, SpawnProcess]]:
    """Worker processes by the pipes that lead to them; they are gone afterwards.

    Pipes, and no queue: a worker that is killed can't leave the others a locked one.
    """
    context = get_context("spawn")  # a forked process can't use a GPU, nor torch's threads
    hired: dict[Connection, SpawnProcess] = {}
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, maker), daemon=True)
            # Ctrl-C reaches all processes of a terminal: workers, from their first moment, leave it to us.
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                process.start()
            finally:
                signal.signal(signal.SIGINT, before)
            theirs.close()
            hired[ours] = process
        yield hired
        # A worker whose pipe is closed ends by itself; killed, it would leave semaphores, and a warning about them.
        for line, process in hired.items():
            line.close()
            process.join(_PATIENCE_S)
    finally:
        for process in hired.values():
            process.kill()
        for process in hired.values():
            process.join()


def _work(line: Connection, maker: Maker) -> None:
    """A worker: draws the shards it is told, tells of each batch and, with None, of each shard."""
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # sums of several threads may be rounded otherwise than those of one
    generator: Sides | None = None
    while True:
        try:
            path, prompts, spec, batch = line.recv()
        except (EOFError, ConnectionError):
            return
        try:
            generator = generator or maker()
            draw_shard(path, prompts, generator, spec, batch, line.send)
        except (UsageError, Failure) as error:
            line.send(error)
            return
        except ConnectionError:  # nobody is left to tell
            return
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error  # pyarrow says more than is of use
            line.send(Failure(f"can't write {path}: {reason}; with that put right, the same command goes on"))
            return
        line.send(None)


def _end_with_parent() -> None:
    """A parent that is killed can't end its workers."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _death(worker: SpawnProcess) -> str:
    worker.join()
    if worker.exitcode == -signal.SIGKILL:
        return (
            "a worker was killed, perhaps because memory ran out: take fewer --workers; what is done is kept, the same "
            "command goes on"
        )
    return f"a worker ended with exit code {worker.exitcode}; what is done is kept, the same command goes on"
