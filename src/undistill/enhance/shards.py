"""Enhance pairs data sets: shard by shard, each whole or not at all."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from undistill.base.engines import Engine
from undistill.base.engines.local import in_process
from undistill.base.errors import Failure, UsageError
from undistill.base.files import PART
from undistill.base.lock import locked
from undistill.base.progress import progress
from undistill.base.threads import spread
from undistill.dataset import within
from undistill.dataset.enhanced import ENHANCED_SCHEMA, EnhancedRow, Enhancement, read_enhancement
from undistill.dataset.samples import ShardImage, list_shard_images, pixels_of
from undistill.dataset.shard import DESCRIPTION, Pairs, Shard, ShardError, check_shard, finished_shards, shard_path
from undistill.dataset.write import shard_writer, write_description
from undistill.enhance.enhancer import WHOLE, Enhancer
from undistill.enhance.shared import SharedEnhancer
from undistill.images import png

ENHANCE_BATCH = 16
"""Images at a time; fewer of large ones, which together have no more pixels than the largest that runs in one piece."""


def enhance_shards(
    source: Path,
    out: Path,
    enhancer: Callable[[], Enhancer],
    head: Mapping[str, str],
    strength: float,
    split: tuple[float, float] = (0.0, 1.0),
    engine: Engine = in_process,
) -> tuple[int, int]:
    """Make an enhanced data set (format: `undistill.dataset.enhanced`) of a pairs data set's student images.

    Shards that are there are kept. Interrupted or killed anywhere and called again, it ends with the same bytes, on the
    same kind of machine.

    Args:
        enhancer: makes the enhancer, in each worker.
        head: "head" and "weights", its name and its hash, and "backend", what runs it, where that is not torch.
        strength: 0 to 1.
        split: a range of the hash of ids; other rows are left out.
        engine: who enhances, one shard at a time each: `undistill.base.engines`.

    Returns:
        How many images were enhanced, and how many were there before.

    Raises:
        UsageError: `source` is no finished pairs data set or has no row in the split; `out` holds something else, or
            images of another head, strength, split or data set.
        Failure: a shard of `source` is broken, or `out` can't be written; or the engine's.
    """
    source, out = source.absolute(), out.absolute()  # another worker's working directory may be another
    pairs = Pairs(source)
    wanted = Enhancement(
        version=1,
        head=head["head"],
        weights=head["weights"],
        strength=strength,
        split=split,
        batch=min(ENHANCE_BATCH, max(1, WHOLE // pairs.description.size**2)),
        pairs=pairs.description,
        backend=head.get("backend", "torch"),
    )
    with _explained(source, out):
        rows = Counter(cell.shard.path.name for cell in list_shard_images(pairs, "student", split))
        with locked(out):
            done = {shard_path(out, number) for number in _open_data_set(out, wanted)}
            jobs = [
                EnhanceShardJob(shard_path(source, number), shard_path(out, number), wanted)
                for number in range(pairs.description.shards)
                if shard_path(out, number) not in done
            ]
            before = sum(rows[path.name] for path in done)
            seen: set[tuple[str, int]] = set()  # a killed worker's batches may come twice
            with (
                progress("enhancing", rows.total(), before) as bar,
                closing(engine(jobs, partial(SharedEnhancer, enhancer), enhance_shard)) as batches,
            ):
                for batch in batches:
                    if (batch.shard, batch.first) not in seen:
                        seen.add((batch.shard, batch.first))
                        bar.advance(by=batch.images)
    return rows.total() - before, before


@dataclass(frozen=True)
class EnhanceShardJob:
    """A shard to enhance."""

    source: Path
    target: Path
    wanted: Enhancement

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True)
class EnhancedBatch:
    """Images that are enhanced: of which shard, from which row in the split on, how many."""

    shard: str
    first: int
    images: int


def enhance_shard(job: EnhanceShardJob, enhancer: SharedEnhancer) -> Iterator[EnhancedBatch]:
    """Enhance one shard; it is there when no more batches come.

    Raises:
        Failure: the source is broken, or the target can't be written.
    """
    wanted = job.wanted
    with _explained(job.source.parent, job.target.parent):
        check_shard(job.source, wanted.pairs.spec)
        shard = Shard(job.source)
        size = (wanted.size, wanted.size)
        ids = enumerate(id for id, *_ in shard.texts)
        cells = [ShardImage(id, size, "student", row, shard) for row, id in ids if within(id, wanted.split)]
        firsts = range(0, len(cells), wanted.batch)

        def batch(first: int) -> list[EnhancedRow]:
            some = cells[first : first + wanted.batch]
            images = enhancer(np.stack([pixels_of(cell) for cell in some]), wanted.strength)
            return [EnhancedRow(*shard.texts[cell.row], png(pixels)) for cell, pixels in zip(some, images, strict=True)]

        with (
            shard_writer(job.target, wanted.hash(), ENHANCED_SCHEMA) as write,
            closing(spread(batch, firsts)) as batches,
        ):
            for first, rows in zip(firsts, batches, strict=True):
                for row in rows:
                    write(row)
                yield EnhancedBatch(job.source.name, first, len(rows))


@contextmanager
def _explained(source: Path, out: Path) -> Iterator[None]:
    """What can't be read or written is a `Failure` that says what to do."""
    try:
        yield
    except ShardError as error:
        raise Failure(f"{error}; `undistill pairs verify {source} --repair` draws it again") from error
    except torch.OutOfMemoryError as error:
        raise Failure("too little memory to enhance images of this size: take --device cpu") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # pyarrow says more than is of use
        raise Failure(f"can't write to {out}: {reason}; with that put right, the same command goes on") from error


def _open_data_set(out: Path, wanted: Enhancement) -> list[int]:
    """The description, before the first shard; returns the shards that are there."""
    if not (out / DESCRIPTION).exists():
        if any(path.name != f".{DESCRIPTION}{PART}" for path in out.iterdir()):
            raise UsageError(f"{out} holds something else: choose a new folder for -o")
        write_description(out, wanted)
        return []
    there = read_enhancement(out)
    done = finished_shards(out, there.pairs)
    if there.hash() == wanted.hash():
        return done
    if done:
        raise UsageError(f"{out} holds images with {_changes(there, wanted)}: choose another folder for -o")
    write_description(out, wanted)  # nothing is made yet: a first try with a wrong option must not block the second
    return []


def _changes(there: Enhancement, wanted: Enhancement) -> str:
    changes = {
        f"another head ({there.head})": there.weights != wanted.weights,
        f"--strength {there.strength:g}": there.strength != wanted.strength,
        f"--split {there.split[0]:g}:{there.split[1]:g}": there.split != wanted.split,
        "other pairs": there.pairs != wanted.pairs,
        f"--backend {there.backend}": there.backend != wanted.backend,
    }
    return ", ".join(words for words, changed in changes.items() if changed) or f"batches of {there.batch}"
