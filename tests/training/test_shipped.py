from pathlib import Path

import pytest

from undistill.base.errors import UsageError
from undistill.training import RECIPES, find_recipe, shipped_recipes


def test_every_recipe_says_what_it_is() -> None:
    listed = shipped_recipes()
    assert len(listed) == len(list(RECIPES.rglob("*.yaml")))
    assert listed["portraits-lite"].startswith("A light head for real FLUX.1-schnell portraits")
    assert all(line[:1].isalpha() for line in listed.values())


def test_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_recipe(Path("tiny/best")) == RECIPES / "tiny" / "best.yaml"
    assert find_recipe(tmp_path / "not-there.yaml") == tmp_path / "not-there.yaml"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "portraits-lite").mkdir()  # a run of that name
    assert find_recipe(Path("portraits-lite")) == RECIPES / "portraits-lite.yaml"
    (tmp_path / "mine").write_text("mode: paired")
    assert find_recipe(Path("mine")) == Path("mine")
    with pytest.raises(UsageError, match=r"^there is no recipe portraits-heavy: give a YAML file, or a name that"):
        find_recipe(Path("portraits-heavy"))
