import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from undistill.base.errors import UsageError
from undistill.dataset.shard import Description, PairRow, Pairs, ShardError, check_shard, read_description, shard_path
from undistill.dataset.write import write_description, write_shard

SPEC = "5" * 64


Folders = Callable[..., Path]


def rows(first: int, last: int) -> list[PairRow]:
    def png(value: int) -> bytes:
        buffer = BytesIO()
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    return [
        PairRow(f"{i:06d}", f"Ein Bäumchen 木 {i}", "", 2**62 + i, png(i), png(i + 100)) for i in range(first, last)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """7 rows in shards of 3."""
    folder = tmp_path / "pairs"
    write_description(
        folder, Description(version=1, pair={"name": "x"}, spec=SPEC, prompts="0", rows=7, shard_size=3, batch=2)
    )
    for number, (first, last) in enumerate([(0, 3), (3, 6), (6, 7)]):
        write_shard(shard_path(folder, number), rows(first, last), SPEC)
    return folder


def test_rows_by_number(folder: Path) -> None:
    pairs = Pairs(folder)
    assert len(pairs) == 7
    assert [pairs[number] for number in (6, 0, 5)] == [rows(0, 7)[number] for number in (6, 0, 5)]
    assert list(pairs) == rows(0, 7)
    assert pairs.image(4, "student") == rows(4, 5)[0].student
    assert pairs.image(4, "teacher") == rows(4, 5)[0].teacher
    assert pairs.ids() == [f"{i:06d}" for i in range(7)]
    for number in (7, -1):
        with pytest.raises(IndexError):
            pairs[number]


def test_the_same_rows_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "again.parquet", rows(0, 3), SPEC)
    assert (tmp_path / "again.parquet").read_bytes() == shard_path(folder, 0).read_bytes()


def test_hugging_face_sees_images(folder: Path) -> None:
    schema = pq.read_schema(shard_path(folder, 0))
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names == ["id", "prompt", "name", "seed", "student", "teacher"]
    assert features["student"] == features["teacher"] == {"_type": "Image"}
    assert [str(field.type) for field in schema] == [
        "string", "string", "string", "int64", *["struct<bytes: binary, path: string>"] * 2
    ]  # fmt: skip
    cell = pq.read_table(shard_path(folder, 0))["teacher"][1].as_py()
    assert np.asarray(Image.open(BytesIO(cell["bytes"]))).flatten().tolist() == [101] * 48


def test_every_flipped_byte_is_found(folder: Path) -> None:
    path = shard_path(folder, 2)
    assert check_shard(path, SPEC) == [(row.id, row.prompt, row.name, row.seed) for row in rows(6, 7)]
    whole = path.read_bytes()
    for place in (*range(0, len(whole), 7), *range(len(whole) - 8, len(whole)), whole.index(b"undistill.sha256") + 30):
        broken = bytearray(whole)
        broken[place] ^= 4
        path.write_bytes(broken)
        with pytest.raises(ShardError, match=r"shard-000002\.parquet is broken: \S"):
            check_shard(path, SPEC)
    for half in (b"", whole[:100], whole[:-1]):
        path.write_bytes(half)
        with pytest.raises(ShardError, match="is broken"):
            check_shard(path, SPEC)
    path.write_bytes(whole)
    with pytest.raises(ShardError, match="made with other settings than"):
        check_shard(path, "6" * 64)
    path.unlink()
    with pytest.raises(ShardError, match="is missing"):
        check_shard(path, SPEC)


def test_a_broken_shard_is_told_when_it_is_read(folder: Path) -> None:
    pairs = Pairs(folder)
    shard_path(folder, 1).write_bytes(b"nothing")
    assert pairs[0].id == "000000"
    with pytest.raises(ShardError, match=r"shard-000001\.parquet is broken"):
        pairs[3]


def test_a_shard_of_other_rows_or_row_groups_is_broken(folder: Path) -> None:
    write_shard(shard_path(folder, 1), rows(3, 5), SPEC)
    with pytest.raises(ShardError, match="holds 2 rows in the place of 3"):
        Pairs(folder)[3]
    pq.write_table(pq.read_table(shard_path(folder, 0)), shard_path(folder, 0))
    with pytest.raises(ShardError, match=r"shard-000000\.parquet is broken: its rows are not row groups"):
        Pairs(folder)[0]


def test_an_error_on_the_way_leaves_no_shard(tmp_path: Path) -> None:
    def cut() -> Iterator[PairRow]:
        yield from rows(0, 1)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_shard(tmp_path / "shard-000000.parquet", cut(), SPEC)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [(10**9, "not finished: 999999997 of 1000000000 shards are missing"), (10**12, "rows: Input should be less than")],
)
def test_any_number_of_rows_is_answered_at_once(rows: int, words: str, folder: Path) -> None:
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(description | {"rows": rows, "shard_size": 1}))
    with pytest.raises(UsageError, match=words) as error:
        Pairs(folder)
    assert "\n" not in str(error.value)


def test_refuses_what_is_no_finished_data_set(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no pairs data set: there is no dataset\.json in it"):
        Pairs(tmp_path)
    shard = shard_path(folder, 1).read_bytes()
    shard_path(folder, 1).unlink()
    with pytest.raises(UsageError, match="is not finished: 1 of 3 shards are missing; give the same"):
        Pairs(folder)
    for number in (1, 3):
        shard_path(folder, number).write_bytes(shard)
    with pytest.raises(UsageError, match=r"shard-000003\.parquet is none of the 3 shards"):
        Pairs(folder)
    for text, words in [
        ("{", "can't be read"),
        ("[]", "is no pairs data set"),
        ('{"version": 2}', r"newer format \(2\): update undistill"),
        ('{"version": 1, "shards_size": 3}', "did you mean shard_size"),
    ]:
        (folder / "dataset.json").write_text(text)
        with pytest.raises(UsageError, match=words) as caught:
            read_description(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, True, "64", None])
def test_a_size_that_is_none_is_refused(size: object, pairs_folder: Folders) -> None:
    description = Pairs(pairs_folder("pairs", 4)).description
    broken = description.model_copy(update={"pair": {**description.pair, "size": size}})
    with pytest.raises(UsageError, match=r"dataset\.json: pair: size is missing, or no number of px"):
        _ = broken.size
