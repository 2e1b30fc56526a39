"""Enhance pairs data sets: shard by shard, each whole or not at all."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from undistill.dataset.enhanced import ENHANCED_SCHEMA, EnhancedRow, Enhancement, FacesAlone, read_enhancement
from undistill.dataset.samples import ShardImage, list_shard_images, pixels_of
from undistill.dataset.shard import DESCRIPTION, Pairs, Shard, ShardError, check_shard, finished_shards, shard_path
from undistill.dataset.write import shard_writer, write_description
from undistill.enhance.change import Change, Run, changed
from undistill.enhance.enhancer import WHOLE, Enhancer
from undistill.enhance.shared import SharedEnhancer
from undistill.images import ImageError, Pixels, png

ENHANCE_BATCH = 16
"""Images at a time; fewer of large ones, which together have no more pixels than the largest that runs in one piece."""


def enhance_shards(
    source: Path,
    out: Path,
    enhancer: Callable[[], Enhancer],
    head: Mapping[str, str],
    change: Change,
    split: tuple[float, float] = (0.0, 1.0),
    engine: Engine = in_process,
) -> tuple[int, int, Mapping[str, int]]:
    """Make an enhanced data set (format: `undistill.dataset.enhanced`) of a pairs data set's student images.

    Shards that are there are kept. Interrupted or killed anywhere and called again, it ends with the same bytes, on the
    same kind of machine.

    Args:
        enhancer: makes the enhancer, in each worker.
        head: "head" and "weights", its name and its hash, and "backend", what runs it, where that is not torch.
        change: what is done to pixels, by one strength for all of them: not `keep_identity`.
        split: a range of the hash of ids; other rows are left out.
        engine: who enhances, one shard at a time each: `undistill.base.engines`.

    Returns:
        How many images were enhanced, how many were there before, and of how many there is what to say, in words.

    Raises:
        UsageError: `source` is no finished pairs data set or has no row in the split; `out` holds something else, or
            images of another head, strength, split or data set.
        Failure: a shard of `source` is broken, or `out` can't be written; an image has no face, and that was to fail,
            or dlib, which finds faces, is not installed; or the engine's.
    """
    source, out = source.absolute(), out.absolute()  # another worker's working directory may be another
    pairs = Pairs(source)
    alone = change.where == "face"
    wanted = Enhancement(
        version=1,
        head=head["head"],
        weights=head["weights"],
        strength=change.strength,
        split=split,
        # To find faces takes longer than what a batch saves.
        batch=1 if alone else min(ENHANCE_BATCH, max(1, WHOLE // pairs.description.size**2)),
        pairs=pairs.description,
        backend=head.get("backend", "torch"),
        faces=FacesAlone(feather=change.feather, no_face=change.no_face) if alone else None,
    )
    notes: Counter[str] = Counter()
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
                        notes.update(batch.notes)
                        bar.advance(by=batch.images)
    return rows.total() - before, before, notes


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
    """Images that are enhanced: of which shard, from which row in the split on, how many; and what to say of them."""

    shard: str
    first: int
    images: int
    notes: tuple[str, ...] = ()


def enhance_shard(job: EnhanceShardJob, enhancer: SharedEnhancer) -> Iterator[EnhancedBatch]:
    """Enhance one shard; it is there when no more batches come.

    Raises:
        Failure: the source is broken, or the target can't be written; or see `changed`.
    """
    wanted = job.wanted
    with _explained(job.source.parent, job.target.parent):
        check_shard(job.source, wanted.pairs.spec)
        shard = Shard(job.source)
        size = (wanted.size, wanted.size)
        ids = enumerate(id for id, *_ in shard.texts)
        cells = [ShardImage(id, size, "student", row, shard) for row, id in ids if within(id, wanted.split)]
        firsts = range(0, len(cells), wanted.batch)

        def batch(first: int) -> tuple[list[EnhancedRow], EnhancedBatch]:
            some = cells[first : first + wanted.batch]
            images, notes = _made(some, wanted, enhancer)
            rows = [EnhancedRow(*shard.texts[cell.row], png(image)) for cell, image in zip(some, images, strict=True)]
            return rows, EnhancedBatch(job.source.name, first, len(rows), tuple(notes))

        with (
            shard_writer(job.target, wanted.hash(), ENHANCED_SCHEMA) as write,
            closing(spread(batch, firsts)) as batches,
        ):
            for rows, made in batches:
                for row in rows:
                    write(row)
                yield made


def _made(cells: Sequence[ShardImage], wanted: Enhancement, enhancer: Run) -> tuple[Iterable[Pixels], list[str]]:
    """The images enhanced, and what there is to say of them."""
    images = [pixels_of(cell) for cell in cells]
    if wanted.faces is None:
        return enhancer(np.stack(images), wanted.strength), []
    change = Change(wanted.strength, "face", wanted.faces.feather, wanted.faces.no_face)
    made = []
    for cell, pixels in zip(cells, images, strict=True):
        try:
            made.append(changed(pixels, enhancer, change))
        except ImageError as error:
            raise Failure(f"{cell} {error}") from error
    return [each.pixels for each in made], [note for each in made for note in each.notes]


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
        _where(there): there.faces != wanted.faces,
        f"--split {there.split[0]:g}:{there.split[1]:g}": there.split != wanted.split,
        "other pairs": there.pairs != wanted.pairs,
        f"--backend {there.backend}": there.backend != wanted.backend,
    }
    return ", ".join(words for words, changed in changes.items() if changed) or f"batches of {there.batch}"


def _where(there: Enhancement) -> str:
    """The options that say it."""
    if there.faces is None:
        return "--where all"
    return f"--where face --feather {there.faces.feather:g} --no-face {there.faces.no_face}"
