"""Pairs data sets: a folder of Parquet shards with the images of student and teacher, read by row number.

    dataset.json          what is in it: `Description`
    prompts.jsonl         the prompts, in the order of the rows
    shard-000000.parquet  the first `shard_size` rows; and so on
    timings.csv           what each batch took, s

Each shard carries in its Parquet metadata the hash of the pair spec and a SHA-256 over its own bytes (with zeros in the
place of the digits). So one rename puts a shard and its checksum in place, no second file can be out of step with it
after a kill, and a shard that is copied alone to another machine can still be checked.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from undistill.errors import Failure, UsageError, first_line
from undistill.settings import Positive, Strict, explain_all

DESCRIPTION = "dataset.json"
SHARD = re.compile(r"shard-(\d{6,})\.parquet")
SPEC, CHECKSUM = b"undistill.spec", b"undistill.sha256"
ZEROS = b"0" * 64

Side = Literal["student", "teacher"]

_TEXTS = ("id", "prompt", "name", "seed")
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as Hugging Face's datasets keeps images
_FEATURES = {
    **{name: {"dtype": "int64" if name == "seed" else "string", "_type": "Value"} for name in _TEXTS},
    "student": {"_type": "Image"},
    "teacher": {"_type": "Image"},
}
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.string()),
        ("name", pa.string()),
        ("seed", pa.int64()),
        ("student", _IMAGE),
        ("teacher", _IMAGE),
    ],
    {"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)

_OPEN_SHARDS = 64  # a process may hold some 1,000 files open, and others want some too


class ShardError(Failure):
    """A shard that can't be used."""


@dataclass(frozen=True)
class Row:
    """A pair: its images are PNG files' bytes."""

    id: str
    prompt: str
    name: str
    seed: int
    student: bytes
    teacher: bytes


class Description(Strict):
    """`dataset.json`: what the data set holds when it is finished. It is there before the first shard is."""

    version: Literal[1]
    """Of the format."""
    pair: dict[str, Any]
    """The pair spec."""
    spec: str
    """The spec's hash."""
    prompts: str
    """SHA-256 of `prompts.jsonl`."""
    rows: Positive
    shard_size: Positive
    """Rows a shard; the last one holds the rest."""
    batch: Positive
    """Images drawn at a time, counted anew in each shard. The rounding of sums may depend on it."""

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_size)

    def span(self, shard: int) -> range:
        """Numbers of the rows in a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.rows))


class Pairs:
    """A finished pairs data set, its rows by number; shards are memory-mapped, and a row is read alone.

    Not for several threads at once; a process that is forked may go on reading.

    Args:
        folder: what `undistill pairs create` made.

    Raises:
        UsageError: it is no pairs data set, or not finished.

    Example:
        pairs = Pairs(Path("pairs"))
        pairs[0].prompt, pairs.image(0, "teacher")
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = read_description(folder)
        missing = self.description.shards - len(finished(folder, self.description))
        if missing:
            raise UsageError(
                f"{folder} is not finished: {missing} of {self.description.shards} shards are missing; give the same "
                "`undistill pairs create` again, and it goes on"
            )
        self._open: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return self.description.rows

    def __getitem__(self, number: int) -> Row:
        """Raises:
        IndexError: no such row.
        ShardError: its shard is broken.
        """
        row = self._read(number, [*_TEXTS, "student.bytes", "teacher.bytes"])
        return Row(**{**row, **{side: row[side]["bytes"] for side in ("student", "teacher")}})

    def __iter__(self) -> Iterator[Row]:
        return (self[number] for number in range(len(self)))

    def image(self, number: int, side: Side) -> bytes:
        """One image of a row, PNG; the other one is not read."""
        return bytes(self._read(number, [f"{side}.bytes"])[side]["bytes"])

    def ids(self) -> list[str]:
        """The ids of all rows, in order; no image is read."""
        ids: list[str] = []
        for shard in range(self.description.shards):
            with _reading(self._path(shard)):
                ids += self._shard(shard).read(["id"], use_threads=False)["id"].to_pylist()
        return ids

    def _read(self, number: int, columns: list[str]) -> dict[str, Any]:
        if not 0 <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        shard, place = divmod(number, self.description.shard_size)
        with _reading(self._path(shard)):
            group = self._shard(shard).read_row_group(place, columns, use_threads=False)
            row: dict[str, Any] = group.to_pylist()[0]
            return row

    def _shard(self, number: int) -> Any:
        if number in self._open:
            self._open.move_to_end(number)
        else:
            self._open[number] = pq.ParquetFile(self._path(number), memory_map=True)
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
        return self._open[number]

    def _path(self, shard: int) -> Path:
        return shard_path(self.folder, shard)


def read_description(folder: Path) -> Description:
    """Raises:
    UsageError: the folder is no pairs data set.
    """
    path = folder / DESCRIPTION
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is no pairs data set: there is no {DESCRIPTION} in it") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{folder} is no pairs data set: {DESCRIPTION} can't be read: {reason}") from error
    if isinstance(data, dict) and isinstance(data.get("version"), int) and data["version"] > 1:
        raise UsageError(f"{folder} is of a newer format ({data['version']}): update undistill")
    try:
        return Description.model_validate(data)
    except ValidationError as error:
        reason = explain_all(error, Description, "a description")
        raise UsageError(f"{folder} is no pairs data set: {DESCRIPTION}: {reason}") from error


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:06d}.parquet"


def finished(folder: Path, description: Description) -> list[int]:
    """Numbers of the shards that are there, in order.

    Raises:
        UsageError: a shard is none of the data set's.
    """
    names = {path.name for path in folder.glob("shard-*.parquet")}
    own = [number for number in range(description.shards) if shard_path(folder, number).name in names]
    others = sorted(names - {shard_path(folder, number).name for number in own})
    if others:
        raise UsageError(
            f"{folder / others[0]} is none of the {description.shards} shards of the data set: take it away"
        )
    return own


def check_shard(path: Path, spec: str) -> list[tuple[str, str, str, int]]:
    """Re-read a shard, whole.

    Args:
        spec: hash of the pair spec it should be drawn with.

    Returns:
        id, prompt, name and seed of its rows.

    Raises:
        ShardError: it is missing, one of its bytes has changed since it was written, or it is another pair's.
    """
    with _reading(path), pq.ParquetFile(path, memory_map=True) as file:
        kept = file.metadata.metadata or {}
        if kept.get(CHECKSUM) != checksum(path, kept.get(CHECKSUM, ZEROS)):
            raise ShardError(f"{path} is broken: its checksum is not that of its bytes")
        if kept.get(SPEC) != spec.encode():
            raise ShardError(f"{path} was drawn with another pair spec")
        return [tuple(row.values()) for row in file.read(list(_TEXTS), use_threads=False).to_pylist()]


def checksum(path: Path, digits: bytes) -> bytes:
    """SHA-256 in hex over a shard's bytes, with zeros where the checksum's digits stand."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        place = data.rfind(digits)
        if place < 0:
            raise ShardError(f"{path} is broken: it holds no checksum")
        with memoryview(data) as view:
            total = sha256(view[:place])
            total.update(ZEROS)
            total.update(view[place + len(ZEROS) :])
        return total.hexdigest().encode()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What goes wrong with a shard's bytes is a `ShardError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise ShardError(f"{path} is missing") from error
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:  # whatever the broken bytes led pyarrow to
        raise ShardError(f"{path} is broken: {first_line(error)}") from error
