"""Images by id, in folders and in shards.

Their splits are by the hash of an id: the same images fall on the same side on every machine, whatever else is there.
"""

from hashlib import sha256

from undistill.base.errors import UsageError

SPLITS = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0), "all": (0.0, 1.0)}


class SplitError(UsageError, ValueError):
    """A split that is none."""


def position(id: str) -> float:
    """Where an id lies in [0, 1): the first 8 bytes of its SHA-256 over 2^64."""
    return int.from_bytes(sha256(id.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def parse_split(text: str) -> tuple[float, float]:
    """`train`, `val`, `test`, `all` or `LO:HI` to (LO, HI), 0 <= LO < HI <= 1.

    Raises:
        SplitError: neither.
    """
    if text in SPLITS:
        return SPLITS[text]
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low = high = -1.0
    if not 0 <= low < high <= 1:
        raise SplitError(f"split {text!r}: write {', '.join(SPLITS)} or LO:HI with 0 <= LO < HI <= 1")
    return low, high


def within(id: str, split: tuple[float, float], fraction: float = 1.0) -> bool:
    """Does the id lie in the split's first `fraction`? So 1% of a split lies inside its 20%."""
    low, high = split
    return low <= position(id) < low + (high - low) * fraction
