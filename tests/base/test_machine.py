from pathlib import Path

import pytest

from undistill.base import machine
from undistill.base.machine import cores, free_memory, memory
from undistill.training.recipe import HeadRecipe, RecipeError, plan_head


def test_a_containers_limit_is_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_LIMIT", limit)
    whole = memory()
    assert whole > 2**20
    limit.write_text("max\n")
    assert memory() == whole
    limit.write_text(f"{2**62}\n")
    assert memory() == whole
    limit.write_text("4096\n")
    assert (memory(), free_memory()) == (4096, 4096)
    with pytest.raises(RecipeError, match="its weights alone take"):
        plan_head(HeadRecipe(architecture="ResnetGenerator"))


def test_where_nobody_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_LIMIT", tmp_path / "gone")
    monkeypatch.setattr(machine, "_LISTED", tmp_path / "gone")
    monkeypatch.delattr("os.sysconf", raising=False)
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert (memory(), free_memory()) == (float("inf"), None)
    assert cores() >= 1
