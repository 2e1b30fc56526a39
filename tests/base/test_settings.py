from pathlib import Path

import pytest
from pydantic import ValidationError

from undistill.base.errors import UsageError
from undistill.base.settings import LONGEST, MOST, Strict, explain_all, read_yaml, unknown_key


def test_a_key_that_nobody_wrote_by_hand_is_cut() -> None:
    assert unknown_key("stepz", ["steps", "size"]) == "unknown key stepz; did you mean steps?"
    assert len(unknown_key("1" * 5000, ["steps"])) < LONGEST + 40


def test_a_path_that_no_system_takes_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: embedded null byte"):
        read_yaml(tmp_path / "recipe\0.yaml")


class Six(Strict):
    a: int
    b: int
    c: int
    d: int
    e: int
    size: int


def test_of_many_problems_a_few_are_named_and_first_what_is_written_wrong() -> None:
    with pytest.raises(ValidationError) as caught:
        Six.model_validate({"a": 1, "b": 1, "c": 1, "d": 1})
    assert explain_all(caught.value, Six, "six") == "e: Field required; size: Field required"
    with pytest.raises(ValidationError) as caught:
        Six.model_validate({"sise": 1})
    said = explain_all(caught.value, Six, "six")
    assert said.startswith("unknown key sise; did you mean size?; a: Field required; ")
    assert said.endswith(f"and {7 - MOST} more")
