import os
from pathlib import Path

import numpy as np
import pytest

from undistill.metrics.cache import cache_folder, key_of, read_arrays, room, trim, write_arrays


def test_arrays_come_back_and_what_was_not_used_for_longest_goes_first() -> None:
    for number in range(4):
        write_arrays(key_of(number), {"x": np.full((1000,), number, np.float32)})
        os.utime(next((cache_folder() / "rows").glob(f"{key_of(number)}*")), (number, number))
    assert read_arrays(key_of(0))["x"][0] == 0  # used: now the newest
    trim(limit=9000)
    assert {number for number in range(4) if read_arrays(key_of(number))} == {0, 3}
    assert read_arrays("none") == {}


def test_what_is_not_as_it_was_written_is_not_there() -> None:
    """A byte that has changed would be a figure that nobody has measured."""
    write_arrays("a", {"x": np.arange(3.0), "x, counts": np.ones(3)})
    (file,) = (cache_folder() / "rows").iterdir()
    whole = file.read_bytes()
    for place in range(0, len(whole), 5):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert read_arrays("a") == {}
        file.write_bytes(whole[:place])
        assert read_arrays("a") == {}
    file.write_bytes(whole)
    assert read_arrays("a")["x"].tolist() == [0, 1, 2]


def test_a_room_stays_and_is_trimmed_like_the_rest() -> None:
    with room("a") as folder:
        (folder / "image.png").write_bytes(b"x" * 5000)
    with room("a") as again:
        assert (again / "image.png").exists()
    mine = cache_folder() / "models" / "mine.bin"
    mine.parent.mkdir()
    mine.write_bytes(b"x" * 5000)
    trim(limit=100)
    assert (folder / "image.png").exists()  # another process may be at it
    for path in (folder / "image.png", mine):
        os.utime(path, (1, 1))
    trim(limit=100)
    assert not folder.exists()
    assert mine.exists()


def test_what_cannot_be_deleted_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    write_arrays("a", {"x": np.ones(1000)})
    os.utime(next((cache_folder() / "rows").iterdir()), (1, 1))

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    trim(limit=100)
    assert read_arrays("a")


def test_where_the_cache_cannot_be_written_a_room_is_temporary_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("UNDISTILL_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        write_arrays("a", {"x": np.ones(1)})
        with room("a") as folder:
            (folder / "image.png").write_bytes(b"x")
        assert not folder.exists()
    assert read_arrays("a") == {}
    trim()
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line == f"the cache {tmp_path / 'file'} can't be written (Not a directory): nothing is kept for the next time"
    )
