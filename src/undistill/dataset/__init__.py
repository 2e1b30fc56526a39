"""Images by id, in folders and in shards.

Their splits are by the hash of an id: the same images fall on the same side on every machine, whatever else is there.
"""

from hashlib import sha256
from pathlib import Path

from undistill.base.errors import UsageError

SPLITS = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0), "all": (0.0, 1.0)}


class SplitError(UsageError, ValueError):
    """A split that is none."""


def position(id: str) -> float:
    """Where an id lies in [0, 1): the first 8 bytes of its SHA-256 over 2^64."""
    return int.from_bytes(sha256(id.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def parse_split(text: str) -> tuple[float, float]:
    """`train`, `val`, `test`, `all` or `LO:HI` to (LO, HI), both from 0 to 1. LO > HI goes round: LO:1 and 0:HI.

    Raises:
        SplitError: neither.
    """
    if text in SPLITS:
        return SPLITS[text]
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low = high = -1.0
    if not (0 <= low < 1 and 0 < high <= 1 and low != high):
        raise SplitError(
            f"split {text!r}: write {', '.join(SPLITS)} or LO:HI, two numbers from 0 to 1; LO > HI means LO:1 and 0:HI"
        )
    return low, high


def within(id: str, split: tuple[float, float], fraction: float = 1.0) -> bool:
    """Does the id lie in the split's first `fraction`? So 1% of a split lies inside its 20%."""
    low, high = split
    end = low + ((high if low < high else high + 1) - low) * fraction
    return low <= position(id) < end or position(id) < end - 1


def fold_split(fold: int, folds: int) -> tuple[float, float]:
    """The range of ids that a fold's head has not seen, fold = 0 ... folds - 1."""
    return fold / folds, (fold + 1) / folds


def fold_folder(run: Path, fold: int) -> Path:
    """Where a fold's run lies, below the run on all images."""
    return run / f"fold-{fold}"


def fold_of(id: str, folds: int) -> int:
    """The fold whose head has not seen an id."""
    return next(fold for fold in range(folds) if within(id, fold_split(fold, folds)))
