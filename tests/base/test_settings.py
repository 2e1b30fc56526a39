from pathlib import Path

import pytest

from undistill.base.errors import UsageError
from undistill.base.settings import LONGEST, read_yaml, unknown_key


def test_a_key_that_nobody_wrote_by_hand_is_cut() -> None:
    assert unknown_key("stepz", ["steps", "size"]) == "unknown key stepz; did you mean steps?"
    assert len(unknown_key("1" * 5000, ["steps"])) < LONGEST + 40


def test_a_path_that_no_system_takes_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: embedded null byte"):
        read_yaml(tmp_path / "recipe\0.yaml")
