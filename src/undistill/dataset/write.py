"""Writes what `undistill.dataset.shard` reads: each file is there whole or not at all."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from mmap import mmap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from undistill.base.files import AnyPath, replacing
from undistill.dataset.enhanced import EnhancedRow, Enhancement
from undistill.dataset.shard import CHECKSUM, DESCRIPTION, SCHEMA, SPEC, ZEROS, Description, PairRow, checksum


def write_description(folder: AnyPath, description: Description | Enhancement) -> None:
    """Write `dataset.json`, whole or not at all."""
    with replacing(folder / DESCRIPTION) as beside:
        text = json.dumps(description.model_dump(mode="json"), indent=1, ensure_ascii=False)
        beside.write_text(f"{text}\n", encoding="utf-8")


def write_shard(
    path: AnyPath, rows: Iterable[PairRow] | Iterable[EnhancedRow], spec: str, schema: pa.Schema = SCHEMA
) -> None:
    """Write rows: see `shard_writer`."""
    with shard_writer(path, spec, schema) as write:
        for row in rows:
            write(row)


@contextmanager
def shard_writer(
    path: AnyPath, spec: str, schema: pa.Schema = SCHEMA
) -> Iterator[Callable[[PairRow | EnhancedRow], None]]:
    """Writes rows as they come; the same rows give the same bytes, with the same version of pyarrow.

    A row group a row, so that one can be read alone (0.75 kB of overhead each); no compression, since PNGs are
    compressed.

    Args:
        spec: hash of what the images were made with: of the pair spec, or `Enhancement.hash`.
        schema: of the rows.
    """
    with replacing(path) as beside:
        with pq.ParquetWriter(
            beside,
            schema,
            version="2.6",
            data_page_version="1.0",
            compression="none",
            use_dictionary=False,
            write_statistics=False,
        ) as writer:

            def write(row: PairRow | EnhancedRow) -> None:
                columns = {
                    name: {"bytes": value, "path": None} if isinstance(value, bytes) else value
                    for name, value in asdict(row).items()
                }
                writer.write_table(pa.Table.from_pylist([columns], schema))

            yield write
            writer.add_key_value_metadata({SPEC: spec, CHECKSUM: ZEROS})
        _seal(beside)


def _seal(path: Path) -> None:
    """Put the checksum in its place, and the file on the disk: after a power cut, what was renamed must be whole."""
    digits = checksum(path, ZEROS)
    with path.open("r+b") as file, mmap(file.fileno(), 0) as data:
        place = data.rfind(ZEROS)  # the footer comes last, and has no other 64 zeros in a row
        data[place : place + len(ZEROS)] = digits
        data.flush()
        os.fsync(file.fileno())
