from pathlib import Path

import pytest

from undistill.base.errors import UsageError
from undistill.base.settings import LONGEST, MOST, first_few, read_yaml, unknown_key


def test_a_key_that_nobody_wrote_by_hand_is_cut() -> None:
    assert unknown_key("stepz", ["steps", "size"]) == "unknown key stepz; did you mean steps?"
    assert len(unknown_key("1" * 5000, ["steps"])) < LONGEST + 40


def test_a_path_that_no_system_takes_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: embedded null byte"):
        read_yaml(tmp_path / "recipe\0.yaml")


def test_of_many_problems_a_few_are_named() -> None:
    assert first_few(["a: no", "b: no"], [1, 2]) == "a: no; b: no"
    assert first_few([f"{number}: no" for number in range(MOST)], range(9)).endswith(f"{MOST - 1}: no; and 5 more")
