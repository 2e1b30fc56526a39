"""Writes what `undistill.dataset.shard` reads: each file is there whole or not at all."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from mmap import mmap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from undistill.atomic import replacing
from undistill.dataset.shard import CHECKSUM, DESCRIPTION, SCHEMA, SPEC, ZEROS, Description, Row, checksum


def write_description(folder: Path, description: Description) -> None:
    with replacing(folder / DESCRIPTION) as beside:
        text = json.dumps(description.model_dump(mode="json"), indent=1, ensure_ascii=False)
        beside.write_text(f"{text}\n", encoding="utf-8")


def write_shard(path: Path, rows: Iterable[Row], spec: str) -> None:
    """Write rows as they come; the same rows give the same bytes, with the same version of pyarrow.

    A row group a row, so that one can be read alone (0.75 kB of overhead each); no compression, since PNGs are
    compressed.

    Args:
        spec: hash of the pair spec that the images were drawn with.
    """
    with replacing(path) as beside:
        with pq.ParquetWriter(
            beside,
            SCHEMA,
            version="2.6",
            data_page_version="1.0",
            compression="none",
            use_dictionary=False,
            write_statistics=False,
        ) as writer:
            for row in rows:
                columns = asdict(row)
                for side in ("student", "teacher"):
                    columns[side] = {"bytes": columns[side], "path": None}
                writer.write_table(pa.Table.from_pylist([columns], SCHEMA))
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
