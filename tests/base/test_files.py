import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import pytest

from tests.pairs.painter import Painter
from tests.pairs.test_create import contents
from undistill.base.engines.local import in_process
from undistill.base.errors import Failure, UsageError
from undistill.base.files import AnyPath, fetched, parse_path, replacing
from undistill.dataset.shard import shard_path
from undistill.pairs.create import create
from undistill.pairs.spec import read_spec
from undistill.pairs.verify import repair, verify
from undistill.prompts import numbered

pytest.importorskip("upath", reason="needs the extra cloud")


@pytest.fixture
def store() -> Iterator[AnyPath]:
    """A folder in fsspec's store in memory."""
    yield parse_path("memory://bucket/pairs")
    fsspec.filesystem("memory").store.clear()


def test_a_file_is_there_whole_or_not_at_all(store: AnyPath, monkeypatch: pytest.MonkeyPatch) -> None:
    file = store / "x.txt"

    def write(text: str, end: BaseException | None = None) -> None:
        with replacing(file) as beside:
            beside.write_text(text)
            if end:
                raise end

    with pytest.raises(KeyboardInterrupt):
        write("half", KeyboardInterrupt())
    assert not file.exists()
    with replacing(file) as beside:
        beside.write_text("whole")
        assert not file.exists()
    assert not beside.exists()
    assert file.read_text() == "whole"
    with fetched(file) as here:
        assert here.read_text() == "whole"
    assert not here.exists()

    def refuse(*_: object) -> None:
        raise RuntimeError("no such bucket\nand a long story")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "put_file", refuse)
    with pytest.raises(Failure, match=r"can't write memory:.*x\.txt: no such bucket; with that put right") as told:
        write("other")
    assert "\n" not in str(told.value)
    assert file.read_text() == "whole"


def test_here_a_file_is_itself(tmp_path: Path) -> None:
    assert parse_path(str(tmp_path)) == tmp_path
    with fetched(tmp_path / "x") as here:
        assert here == tmp_path / "x"


def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^abacus://x can't be reached: Unsupported filesystem: 'abacus'$"):
        parse_path("abacus://x")
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(UsageError, match=r"^abfs://x/y needs another package: pip install adlfs$"):
        parse_path("abfs://x/y")
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(UsageError, match=r"^s3://x/y: object stores need pip install 'undistill\[cloud\]'$"):
        parse_path("s3://x/y")


def test_pairs_go_there_as_they_do_here(store: AnyPath, tmp_path: Path) -> None:
    spec, prompts = read_spec("tiny"), numbered([f"A portrait of {name}" for name in "abcdefg"], 5)
    maker = partial(Painter, spec)

    def draw(out: AnyPath) -> tuple[int, int]:
        return create(prompts, out, spec, maker, 3, 2, in_process)

    assert draw(tmp_path / "here") == draw(store) == (7, 0)
    everything = contents(tmp_path / "here")
    assert {path.name for path in store.iterdir()} == {*everything, "timings.csv"}
    assert {name: (store / name).read_bytes() for name in everything} == everything
    timings = (store / "timings.csv").read_text().splitlines()

    shard_path(store, 1).unlink()
    broken = verify(store)
    assert list(broken) == [1]
    assert "pairs/shard-000001.parquet is missing" in broken[1]
    assert draw(store) == (3, 4)
    assert (store / "timings.csv").read_text().splitlines()[: len(timings)] == timings

    shard_path(store, 0).write_bytes(b"?" + everything["shard-000000.parquet"][1:])
    assert "pairs/shard-000000.parquet is broken: its checksum" in verify(store)[0]
    repair(store, [0], maker, in_process)
    assert {name: (store / name).read_bytes() for name in everything} == everything
    with pytest.raises(UsageError, match="--shard-size 3: choose another folder"):
        create(prompts, store, spec, maker, 4, 2, in_process)
    with pytest.raises(UsageError, match="holds something else"):
        draw(store.parent)


def test_takes_the_place_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    for text in ("first", "second"):
        with replacing(path) as beside:
            beside.write_text(text)
            assert not path.exists() or path.read_text() == "first"
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o400


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as beside:
        beside.write_text("half \udc80")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
