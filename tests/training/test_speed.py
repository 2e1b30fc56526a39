from collections.abc import Callable
from pathlib import Path

from tests.training.test_recipe import PLAIN
from undistill.dataset.shard import Pairs
from undistill.training.recipe import make_recipe
from undistill.training.speed import step_seconds


def test_steps_are_timed_and_nothing_is_written(pairs_folder: Callable[..., Path]) -> None:
    folder = pairs_folder("pairs", 6)
    before = sorted(folder.parent.rglob("*"))
    recipe = make_recipe(PLAIN | {"batch": 2})
    assert 0 < step_seconds(recipe, Pairs(folder), device="cpu") < 60
    assert sorted(path for path in folder.parent.rglob("*") if "cache" not in path.parts) == before
