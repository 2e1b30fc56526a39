"""Enhance pairs data sets: shard by shard, each whole or not at all."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from undistill.atomic import PART
from undistill.dataset.enhanced import ENHANCED_SCHEMA, EnhancedRow, Enhancement, read_enhancement
from undistill.dataset.samples import Cell, list_cells, pixels_of
from undistill.dataset.shard import DESCRIPTION, Pairs, ShardError, check_shard, finished, shard_path
from undistill.dataset.write import alone, write_description, write_shard
from undistill.enhance.enhancer import WHOLE, Enhancer
from undistill.errors import Failure, UsageError
from undistill.images import Picture, encode
from undistill.progress import Bar, progress

BATCH = 16
"""Images at a time; fewer of large ones, which together have no more pixels than the largest that runs in one piece."""


def enhance_shards(
    source: Path,
    out: Path,
    enhancer: Callable[[], Enhancer],
    head: Mapping[str, str],
    strength: float,
    split: tuple[float, float] = (0.0, 1.0),
) -> tuple[int, int]:
    """Make an enhanced data set (format: `undistill.dataset.enhanced`) of a pairs data set's student images.

    Shards that are there are kept. Interrupted or killed anywhere and called again, it ends with the same bytes, on the
    same kind of machine.

    Args:
        enhancer: makes the enhancer when the first image needs it.
        head: "head" and "weights", its name and its hash.
        strength: 0 to 1.
        split: a range of the hash of ids; other rows are left out.

    Returns:
        How many images were enhanced, and how many were there before.

    Raises:
        UsageError: `source` is no finished pairs data set or has no row in the split; `out` holds something else, or
            images of another head, strength, split or data set.
        Failure: a shard of `source` is broken, or `out` can't be written.
    """
    pairs = Pairs(source)
    wanted = Enhancement(
        version=1,
        head=head["head"],
        weights=head["weights"],
        strength=strength,
        split=split,
        batch=min(BATCH, max(1, WHOLE // pairs.description.size**2)),
        pairs=pairs.description,
    )
    ready: Enhancer | None = None
    try:
        cells: dict[str, list[Cell]] = defaultdict(list)  # by their shards' names, which are those of the new ones
        for cell in list_cells(pairs, "student", split):
            cells[cell.shard.path.name].append(cell)
        total = sum(map(len, cells.values()))
        out.mkdir(parents=True, exist_ok=True)
        with alone(out):
            done = _begin(out, wanted)
            before = sum(len(cells[shard_path(out, number).name]) for number in done)
            left = [number for number in range(pairs.description.shards) if number not in done]
            with progress("enhancing", total, before) as bar:
                for number in left:
                    ready = ready or enhancer()
                    check_shard(shard_path(source, number), pairs.description.spec)
                    path = shard_path(out, number)
                    rows = _enhanced(cells[path.name], ready, strength, wanted.batch, bar)
                    write_shard(path, rows, wanted.hash(), ENHANCED_SCHEMA)
    except ShardError as error:
        raise Failure(f"{error}; `undistill pairs verify {source} --repair` draws it again") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # pyarrow says more than is of use
        raise Failure(f"can't write to {out}: {reason}; with that put right, the same command goes on") from error
    return total - before, before


def _enhanced(
    cells: Sequence[Cell], enhancer: Enhancer, strength: float, batch: int, bar: Bar
) -> Iterator[EnhancedRow]:
    for first in range(0, len(cells), batch):
        some = cells[first : first + batch]
        images = enhancer(np.stack([pixels_of(cell) for cell in some]), strength)
        for cell, pixels in zip(some, images, strict=True):
            yield EnhancedRow(*cell.shard.texts[cell.row], encode(Picture(pixels, None, "PNG"), pixels))
            bar.advance()


def _begin(out: Path, wanted: Enhancement) -> list[int]:
    """The description, before the first shard; returns the shards that are there."""
    if not (out / DESCRIPTION).exists():
        if any(path.name != f".{DESCRIPTION}{PART}" for path in out.iterdir()):
            raise UsageError(f"{out} holds something else: choose a new folder for -o")
        write_description(out, wanted)
        return []
    there = read_enhancement(out)
    done = finished(out, there.pairs)
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
    }
    return ", ".join(words for words, changed in changes.items() if changed) or f"batches of {there.batch}"
