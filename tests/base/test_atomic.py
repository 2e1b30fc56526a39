from pathlib import Path

import pytest

from undistill.base.atomic import replacing


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
