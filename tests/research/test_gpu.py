"""What is prepared for a GPU, without one."""

from pathlib import Path

import pytest
from research.gpu import LIMITS, MMD, PARTS, SPARE, _run, files, mmd


def test_all_parts_together_take_less_than_nine_minutes() -> None:
    assert LIMITS.keys() == PARTS.keys()
    assert sum(LIMITS.values()) <= 500
    assert min(LIMITS.values()) > 2 * SPARE


@pytest.mark.e2e
def test_recipes_are_timed_on_random_pairs(tmp_path: Path) -> None:
    found = mmd(_run, tmp_path, small=True)
    assert found.keys() == MMD.keys()
    assert all(each["images_s"] > 0 and each["peak_bytes"] is None for each in found.values())


@pytest.mark.e2e
def test_a_folder_is_timed_beside_its_parts(tmp_path: Path) -> None:
    assert "| all of it, " in files(_run, tmp_path, small=True)["table"]
