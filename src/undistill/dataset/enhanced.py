"""Enhanced data sets: what a head has made of the student images of a pairs data set.

dataset.json          what is in it: `Enhancement`
shard-000000.parquet  the rows of the pairs' shard of this number, or those of them in the split; and so on
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from undistill.base.settings import Part, Positive, Strict
from undistill.dataset.shard import Description, Shard, read_dataset_json, refuse_unfinished, schema, shard_path

ENHANCED_SCHEMA = schema("enhanced")


@dataclass(frozen=True)
class EnhancedRow:
    """A row of a pairs data set, with a PNG of its enhanced image in the place of the two."""

    id: str
    prompt: str
    name: str
    seed: int
    enhanced: bytes


class FacesAlone(Strict):
    """Where it was the faces that were enhanced, and nothing else: see `undistill.enhance.Enhancer`."""

    feather: Part
    no_face: Literal["whole", "keep", "fail"]


class Enhancement(Strict):
    """`dataset.json`: what the data set holds when it is finished."""

    version: Literal[1]
    """Of the format."""
    head: str
    """The head's name, as it was given."""
    weights: str
    """`undistill.heads.head.head_hash`."""
    strength: Part
    split: tuple[float, float]
    """Which rows: a range of the hash of their ids."""
    batch: Positive
    """Images enhanced at a time, counted anew in each shard. The rounding of sums may depend on it."""
    pairs: Description
    """The pairs data set it was made of."""
    backend: str = "torch"
    """What ran the head (`undistill.enhance.backends`); torch goes without saying."""
    faces: FacesAlone | None = None
    """None, which goes without saying: all of each image."""

    @model_serializer(mode="wrap")
    def _what_needs_saying(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = dump(self)
        unsaid = {"backend": "torch", "faces": None}
        return {key: value for key, value in fields.items() if key not in unsaid or value != unsaid[key]}

    @property
    def size(self) -> int:
        """Side of the images, px."""
        return self.pairs.size

    def hash(self) -> str:
        """SHA-256 over what rows and images depend on: neither the head's name nor the pair's."""
        settings = self.model_dump(mode="json", exclude={"head": True, "pairs": {"pair"}})
        return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


class Enhanced:
    """A finished enhanced data set.

    Args:
        folder: what `undistill enhance` has made of a pairs data set.

    Raises:
        UsageError: it is none, or not finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = read_enhancement(folder)
        refuse_unfinished(folder, self.description.pairs, "undistill enhance")

    def shards(self) -> Iterator[Shard]:
        """All shards, in order."""
        return (Shard(shard_path(self.folder, number)) for number in range(self.description.pairs.shards))


def read_enhancement(folder: Path) -> Enhancement:
    """Raises:
    UsageError: the folder is no enhanced data set.
    """
    return read_dataset_json(folder, Enhancement, "enhanced data set")
