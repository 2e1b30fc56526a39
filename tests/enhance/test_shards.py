import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from undistill.base.errors import Failure, UsageError
from undistill.dataset import within
from undistill.dataset.enhanced import Enhanced, read_enhancement
from undistill.dataset.samples import list_shard_images, pixels_of
from undistill.dataset.shard import Pairs, check_shard, read_description, shard_path
from undistill.enhance import Enhancer, shards
from undistill.enhance.change import Change
from undistill.enhance.shards import enhance_shards

Folders = Callable[..., Path]
HEAD = {"head": "inverse", "weights": "0"}


class Inverse:
    """Stands for an Enhancer; remembers how many images it was given at a time."""

    device = torch.device("cpu")
    head = SimpleNamespace(trained_at=None)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Any, strength: float) -> Any:
        self.batches.append(len(images))
        return 255 - images


def run(source: Path, out: Path, strength: float = 1.0, head: dict[str, str] = HEAD, **more: Any) -> list[int]:
    """The batches that were needed, the largest first."""
    inverse = Inverse()
    make: Callable[[], Enhancer] = lambda: inverse  # type: ignore[assignment, return-value]  # noqa: E731
    enhanced, before, notes = enhance_shards(source, out, make, head, Change(strength), **more)
    assert not notes
    assert enhanced == sum(inverse.batches)
    assert enhanced + before == len(list_shard_images(Enhanced(out), "enhanced", (0, 1)))
    return sorted(inverse.batches, reverse=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def _batches_of_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ENHANCE_BATCH", 3)


def test_rows_and_shards_are_those_of_the_pairs(pairs_folder: Folders, tmp_path: Path) -> None:
    pairs, out = Pairs(pairs_folder("pairs", 10, size=32)), tmp_path / "out"
    assert run(pairs.folder, out) == [3, 3, 2, 1, 1]
    assert sorted(contents(out)) == ["dataset.json", *(f"shard-{number:06d}.parquet" for number in range(3))]
    for x, cell in zip(
        list_shard_images(pairs, "student", (0, 1)), list_shard_images(Enhanced(out), "enhanced", (0, 1)), strict=True
    ):
        assert x.shard.texts[x.row] == cell.shard.texts[cell.row]
        assert np.array_equal(pixels_of(cell), 255 - pixels_of(x))
    written = json.loads((out / "dataset.json").read_text())
    assert {key: written[key] for key in ("head", "weights", "strength", "split")} == {
        "head": "inverse", "weights": "0", "strength": 1.0, "split": [0.0, 1.0]
    }  # fmt: skip
    assert read_enhancement(out).pairs == pairs.description
    texts = check_shard(shard_path(out, 2), read_enhancement(out).hash())
    assert [id for id, *_ in texts] == ["000008", "000009"]


def test_hugging_face_sees_images(pairs_folder: Folders, tmp_path: Path) -> None:
    run(pairs_folder("pairs", 2, size=32), tmp_path / "out")
    table = pq.read_table(shard_path(tmp_path / "out", 0))
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.schema.names == ["id", "prompt", "name", "seed", "enhanced"]
    assert features["enhanced"] == {"_type": "Image"}
    assert Image.open(BytesIO(table["enhanced"][1].as_py()["bytes"])).size == (32, 32)


def test_goes_on_where_it_stopped(pairs_folder: Folders, tmp_path: Path) -> None:
    source, out = pairs_folder("pairs", 10, size=32), tmp_path / "out"
    run(source, out)
    before = contents(out)
    assert run(source, out) == []
    shard_path(out, 1).unlink()
    (out / ".shard-000001.parquet.part").write_bytes(b"half")  # of a killed run
    with pytest.raises(
        UsageError, match="is not finished: 1 of 3 shards are missing; give the same `undistill enhance`"
    ):
        Enhanced(out)
    assert run(source, out, head={**HEAD, "head": "the same by another name"}) == [3, 1]
    assert contents(out) == before


def test_a_split_is_of_the_same_numbering(pairs_folder: Folders, tmp_path: Path) -> None:
    source, out = pairs_folder("pairs", 16, size=32), tmp_path / "out"
    run(source, out, split=(0.0, 0.3))
    expected = [[id for i in range(n, n + 4) if within(id := f"{i:06d}", (0.0, 0.3))] for n in range(0, 16, 4)]
    assert [[id for id, *_ in shard.texts] for shard in Enhanced(out).shards()] == expected
    assert [] in expected  # a shard without a row is one all the same
    assert run(source, out, split=(0.0, 0.3)) == []
    with pytest.raises(UsageError, match="no image of 1 of the split"):
        run(source, tmp_path / "none", split=(0.0, 1e-9))


def test_refuses_to_mix(pairs_folder: Folders, tmp_path: Path) -> None:
    source, out = pairs_folder("pairs", 6, size=32), tmp_path / "out"
    run(source, out)
    before = contents(out)
    refused: list[tuple[str, Callable[[], object]]] = [
        (r"another head \(inverse\): choose another folder", lambda: run(source, out, head={**HEAD, "weights": "1"})),
        ("images with --strength 1: choose", lambda: run(source, out, strength=0.5)),
        ("images with --split 0:1: choose", lambda: run(source, out, split=(0.0, 0.5))),
        ("images with other pairs: choose", lambda: run(pairs_folder("other", 6, size=32, seed=1), out)),
        ("is no enhanced data set: it holds pairs", lambda: run(source, source)),
        ("is no pairs data set: it holds enhanced images", lambda: run(out, tmp_path / "twice")),
    ]
    for words, call in refused:
        with pytest.raises(UsageError, match=words):
            call()
    assert contents(out) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds something else: choose a new folder"):
        run(source, tmp_path / "mine")
    for number in range(2):
        shard_path(out, number).unlink()
    assert run(source, out, strength=0.5) == [3, 2, 1]  # nothing was there
    assert read_enhancement(out).strength == 0.5


def test_refuses_what_is_unfinished_or_broken(pairs_folder: Folders, tmp_path: Path) -> None:
    source, out = pairs_folder("pairs", 6, size=32), tmp_path / "out"
    path = shard_path(source, 1)
    whole = path.read_bytes()
    at = whole.index(b"IDAT") + 9
    for broken in (whole[:at] + b"?" + whole[at + 1 :], whole[:-20]):
        path.write_bytes(broken)
        with pytest.raises(
            Failure, match=r"shard-000001\.parquet is broken.*`undistill pairs verify .* --repair`"
        ) as told:
            run(source, out)
        assert "\n" not in str(told.value)
    assert sorted(contents(out)) == ["dataset.json", "shard-000000.parquet"]
    path.write_bytes(whole)
    (out / ".shard-000001.parquet.part").mkdir()  # what can't be written to
    with pytest.raises(Failure, match=r"can't write to .*the same command goes on"):
        run(source, out)
    path.unlink()
    with pytest.raises(UsageError, match="is not finished: 1 of 2 shards are missing"):
        run(source, out)


def test_large_images_go_through_in_smaller_batches(pairs_folder: Folders, tmp_path: Path) -> None:
    source, out = pairs_folder("pairs", 3, size=32), tmp_path / "out"
    text = (source / "dataset.json").read_text()
    (source / "dataset.json").write_text(text.replace('"size": 32', '"size": 1024'))
    assert read_description(source).size == 1024
    assert run(source, out) == [2, 1]


def test_faces_alone_one_by_one(pairs_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, out = Pairs(pairs_folder("pairs", 6, size=32)), tmp_path / "out"
    students = [pixels_of(cell) for cell in list_shard_images(pairs, "student", (0, 1))]
    found = [students[number].tobytes() for number in (0, 1, 2, 4)]

    def eyes(pixels: Any) -> list[Any]:
        return [np.array([[11, 12], [12, 12], [20, 12], [21, 12], [16, 17]], float)] * (pixels.tobytes() in found)

    monkeypatch.setattr("undistill.enhance.change.find_faces", eyes)

    def made(folder: Path, **more: Any) -> tuple[int, int, Any]:
        return enhance_shards(pairs.folder, folder, Inverse, HEAD, Change(where="face", **more))  # type: ignore[arg-type]

    assert made(out) == (6, 0, {"no face found: all of it enhanced": 2})
    assert made(out) == (0, 6, {})
    after = [pixels_of(cell) for cell in list_shard_images(Enhanced(out), "enhanced", (0, 1))]
    for number, (x, z) in enumerate(zip(students, after, strict=True)):
        assert np.array_equal(z[12, 16], 255 - x[12, 16])
        assert np.array_equal(z[0, 0], x[0, 0] if number in (0, 1, 2, 4) else 255 - x[0, 0])
    written = json.loads((out / "dataset.json").read_text())
    assert (written["faces"], written["batch"]) == ({"feather": 0.2, "no_face": "whole"}, 1)
    with pytest.raises(UsageError, match=r"images with --where face --feather 0\.2 --no-face whole: choose another"):
        made(out, feather=0.3)
    with pytest.raises(UsageError, match=r"images with --where face .*: choose another"):
        run(pairs.folder, out)
    with pytest.raises(Failure, match=r"shard-000000\.parquet: student 000003 shows no face"):
        made(tmp_path / "none", no_face="fail")
