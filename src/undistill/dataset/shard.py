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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from undistill.base.errors import Failure, UsageError, first_line
from undistill.base.files import AnyPath, fetched
from undistill.base.settings import Positive, Strict, explain_all

DESCRIPTION = "dataset.json"
SPEC, CHECKSUM = b"undistill.spec", b"undistill.sha256"
ZEROS = b"0" * 64
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

Model = TypeVar("Model", bound=Strict)
Side = Literal["student", "teacher"]
Texts = tuple[str, str, str, int]
"""id, prompt, name and seed of a row."""

_TEXTS = ("id", "prompt", "name", "seed")
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as Hugging Face's datasets keeps images


def schema(*images: str) -> pa.Schema:
    """Of shards with the texts of their rows and columns of images."""
    texts = {name: "int64" if name == "seed" else "string" for name in _TEXTS}
    features: dict[str, dict[str, str]] = {name: {"dtype": kind, "_type": "Value"} for name, kind in texts.items()}
    features |= {name: {"_type": "Image"} for name in images}
    columns = [(name, pa.type_for_alias(kind)) for name, kind in texts.items()] + [(name, _IMAGE) for name in images]
    return pa.schema(columns, {"huggingface": json.dumps({"info": {"features": features}})})


SCHEMA = schema("student", "teacher")


class ShardError(Failure):
    """A shard that can't be used."""


@dataclass(frozen=True)
class PairRow:
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
    rows: Annotated[int, Field(gt=0, le=10**9)]
    shard_size: Positive
    """Rows a shard; the last one holds the rest."""
    batch: Positive
    """Images drawn at a time, counted anew in each shard. The rounding of sums may depend on it."""

    @property
    def size(self) -> int:
        """Side of the images, px.

        Raises:
            UsageError: the pair spec doesn't say.
        """
        size = self.pair.get("size")
        if type(size) is not int or size < 1:
            raise UsageError(f"{DESCRIPTION}: pair: size is missing, or no number of px")
        return size

    @property
    def origin(self) -> dict[str, str]:
        """Hashes that tell its pairs from others."""
        return {"spec": self.spec, "prompts": self.prompts}

    @property
    def shards(self) -> int:
        """How many shards the data set has when it is finished."""
        return -(-self.rows // self.shard_size)

    def span(self, shard: int) -> range:
        """Numbers of the rows in a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.rows))


class Shard:
    """A shard that is read: the texts of its rows, and where in the file their images lie.

    A row is a row group, and nothing is compressed, so an image is the end of its column's stretch of the file. The
    footer is read once, then each image by itself. No file stays open: processes and threads may share a `Shard`.

    Raises:
        ShardError: it is missing or broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path), pq.ParquetFile(path, memory_map=True) as file:
            self.texts = _texts(file)
            self._stretches = _stretches(file.metadata)

    def image(self, place: int, column: str) -> bytes:
        """The PNG in a column of the row at `place`; nothing else is read.

        Raises:
            ShardError: the shard is missing or broken.
        """
        start, length = map(int, self._stretches[column][place])
        with _reading(self.path), self.path.open("rb") as file:
            file.seek(start)
            stretch = file.read(length)
            at = stretch.index(PNG_SIGNATURE)
            if int.from_bytes(stretch[at - 4 : at], "little") != length - at:
                raise ValueError("an image has lost bytes")
            return stretch[at:]


class Pairs:
    """A finished pairs data set, its rows by number; a row is read alone, in any process or thread.

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
        refuse_unfinished(folder, self.description, "undistill pairs create")
        self._shards: dict[int, Shard] = {}

    def __len__(self) -> int:
        return self.description.rows

    def __getitem__(self, number: int) -> PairRow:
        """Raises:
        IndexError: no such row.
        ShardError: its shard is broken.
        """
        shard, place = self._find(number)
        return PairRow(*shard.texts[place], shard.image(place, "student"), shard.image(place, "teacher"))

    def __iter__(self) -> Iterator[PairRow]:
        return (self[number] for number in range(len(self)))

    def image(self, number: int, side: Side) -> bytes:
        """One image of a row, PNG; the other one is not read."""
        shard, place = self._find(number)
        return shard.image(place, side)

    def ids(self) -> list[str]:
        """The ids of all rows, in order; no image is read."""
        return [id for shard in self.shards() for id, *_ in shard.texts]

    def shards(self) -> Iterator[Shard]:
        """All shards, in order."""
        return map(self._shard, range(self.description.shards))

    def _find(self, number: int) -> tuple[Shard, int]:
        if not 0 <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        shard, place = divmod(number, self.description.shard_size)
        return self._shard(shard), place

    def _shard(self, number: int) -> Shard:
        if number not in self._shards:
            shard, wanted = Shard(shard_path(self.folder, number)), len(self.description.span(number))
            if len(shard.texts) != wanted:
                raise ShardError(f"{shard.path} is broken: it holds {len(shard.texts)} rows in the place of {wanted}")
            self._shards[number] = shard
        return self._shards[number]


def read_description(folder: AnyPath) -> Description:
    """Raises:
    UsageError: the folder is no pairs data set.
    """
    return read_dataset_json(folder, Description, "pairs data set", "undistill pairs recover")


def read_dataset_json(folder: AnyPath, model: type[Model], what: str, anew: str = "") -> Model:
    """A folder's `dataset.json`.

    Args:
        model: what it should hold.
        what: what the folder should be, in words.
        anew: the command that makes one from shards.

    Raises:
        UsageError: it is none.
    """
    path = folder / DESCRIPTION
    advice = (
        f"; `{anew} {folder}` makes it anew from the shards" if anew and any(folder.glob("shard-*.parquet")) else ""
    )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is no {what}: there is no {DESCRIPTION} in it{advice}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise UsageError(f"{folder} is no {what}: {DESCRIPTION} can't be read: {reason}{advice}") from error
    if isinstance(data, dict) and isinstance(data.get("version"), int) and data["version"] > 1:
        raise UsageError(f"{folder} is of a newer format ({data['version']}): update undistill")
    for key, held in (("pair", "pairs"), ("pairs", "enhanced images")):
        if isinstance(data, dict) and key in data and key not in model.model_fields:
            raise UsageError(f"{folder} is no {what}: it holds {held}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        reason = explain_all(error, model, "a description")
        raise UsageError(f"{folder} is no {what}: {DESCRIPTION}: {reason}{advice}") from error


@overload
def shard_path(folder: Path, number: int) -> Path: ...


@overload
def shard_path(folder: AnyPath, number: int) -> AnyPath: ...


def shard_path(folder: AnyPath, number: int) -> AnyPath:
    """Where the shard of a number is, 0 the first."""
    return folder / f"shard-{number:06d}.parquet"


def shard_numbers(folder: AnyPath) -> list[int]:
    """Numbers of the shards that are there, whatever the description says, in order."""
    names = {path.name for path in folder.glob("shard-*.parquet")}
    digits = (name.removeprefix("shard-").removesuffix(".parquet") for name in names)
    numbers = sorted({int(number) for number in digits if number.isdecimal()})
    return [number for number in numbers if shard_path(folder, number).name in names]


def finished_shards(folder: AnyPath, description: Description) -> list[int]:
    """Numbers of the shards that are there, in order. Each is whole, so no other list of them is kept.

    Raises:
        UsageError: a shard is none of the data set's.
    """
    names = {path.name for path in folder.glob("shard-*.parquet")}
    own = [number for number in shard_numbers(folder) if number < description.shards]
    others = sorted(names - {shard_path(folder, number).name for number in own})
    if others:
        raise UsageError(
            f"{folder / others[0]} is none of the {description.shards} shards of the data set: take it away"
        )
    return own


def refuse_unfinished(folder: AnyPath, description: Description, command: str) -> None:
    """Raises:
    UsageError: shards are missing; `command` goes on.
    """
    missing = description.shards - len(finished_shards(folder, description))
    if missing:
        raise UsageError(
            f"{folder} is not finished: {missing} of {description.shards} shards are missing; give the same "
            f"`{command}` again, and it goes on"
        )


@dataclass(frozen=True)
class Sealed:
    """What a shard says of itself."""

    spec: str
    """Hash of what it was made with."""
    texts: list[Texts]
    """Of its rows."""
    images: frozenset[str]
    """Its columns of images."""


def check_shard(path: AnyPath, spec: str) -> list[Texts]:
    """Re-read a shard, whole.

    Args:
        spec: hash of what it should be made with: the pair spec's, or `Enhancement.hash`.

    Returns:
        id, prompt, name and seed of its rows.

    Raises:
        ShardError: it is missing, one of its bytes has changed since it was written, or it was made with something
            else.
    """
    sealed = read_sealed(path)
    if sealed.spec != spec:
        raise ShardError(f"{path} was made with other settings than {DESCRIPTION} says")
    return sealed.texts


def read_sealed(path: AnyPath) -> Sealed:
    """Re-read a shard, whole, whatever it was made with.

    Raises:
        ShardError: it is missing, or one of its bytes has changed since it was written.
    """
    with _reading(path), fetched(path) as here, pq.ParquetFile(here, memory_map=True) as file:
        kept = file.metadata.metadata or {}
        if kept.get(CHECKSUM) != checksum(here, kept.get(CHECKSUM, ZEROS)):
            raise ShardError(f"{path} is broken: its checksum is not that of its bytes")
        images = frozenset(file.schema_arrow.names) - set(_TEXTS)
        return Sealed(kept.get(SPEC, b"").decode(), _texts(file), images)


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
def _reading(path: AnyPath) -> Iterator[None]:
    """What goes wrong with a shard's bytes is a `ShardError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise ShardError(f"{path} is missing") from error
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:  # whatever the broken bytes led pyarrow to
        raise ShardError(f"{path} is broken: {first_line(error)}") from error


def _texts(file: Any) -> list[Texts]:
    return [tuple(row.values()) for row in file.read(list(_TEXTS), use_threads=False).to_pylist()]


def _stretches(footer: Any) -> dict[str, NDArray[np.int64]]:
    """Where the values of each column of images lie, (rows, 2): first byte and number of bytes."""
    if footer.num_row_groups != footer.num_rows:
        raise ValueError("its rows are not row groups")
    names = [footer.schema.column(number).path for number in range(footer.num_columns)]
    columns = {name.removesuffix(".bytes"): number for number, name in enumerate(names) if name.endswith(".bytes")}
    stretches = {}
    for name, number in columns.items():
        chunks = [footer.row_group(row).column(number) for row in range(footer.num_rows)]
        lengths = [(chunk.data_page_offset, chunk.total_compressed_size) for chunk in chunks]
        stretches[name] = np.array(lengths, np.int64).reshape(-1, 2)
    return stretches
