import re
from pathlib import Path
from typing import Any

import pytest

from undistill.base.errors import UsageError
from undistill.fit.evidence import choose_recipe, gpu_recipe, gpu_recipes, read_evidence
from undistill.pairs.plan import GPUS
from undistill.training import find_recipe
from undistill.training.recipe import change_recipe, read_recipe

ROOT = Path(__file__).parents[2]
TABLES = read_evidence()["tables"]


def test_the_choice_is_what_the_tables_say() -> None:
    assert choose_recipe(64, pairs=True).name == "tiny/best"
    assert choose_recipe(64, pairs=False).name == "tiny/cyclegan"  # the best of those that need no pairs
    portraits = choose_recipe(512, pairs=True)
    assert (portraits.name, dict(portraits.changes)) == ("flux1", {})
    assert "0.66 [0.43, 0.88]" in portraits.why
    assert "as yours will be, 0.07 [-0.01, 0.16], the best filter (blur) 0.08" in portraits.why
    assert choose_recipe(1024, pairs=False).name == "flux1"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table['of']}-{table['features']}-{table['n']}")
def test_every_figure_stands_in_the_docs(table: dict[str, Any]) -> None:
    page, _, place = table["source"].partition("#")
    text = (ROOT / page).read_text()
    assert place in re.sub(r"[^a-z0-9 \n-]", "", text.lower()).replace(" ", "-")
    assert table["command"]
    for row in table["rows"]:
        value, low, high = row["gap_closed"]
        written = f"{value:.2f} [{low:.2f}, {high:.2f}]" if abs(value) < 10 else f"{value} [{low}, {high}]"
        assert written in text, written
        recipe = read_recipe(find_recipe(Path(row["recipe"])))
        change_recipe(recipe, row.get("changes", {}))


@pytest.mark.parametrize("recipe", gpu_recipes(), ids=lambda recipe: recipe.name)
def test_recipes_for_gpus_are_what_was_computed(recipe: Any) -> None:
    followed = read_recipe(find_recipe(Path(recipe.name)))
    assert followed.batch == recipe.batch
    assert followed.data.size == 512
    assert recipe.memory < 0.75 * recipe.gpu
    assert set(recipe.images_s) == {gpu.name for gpu in GPUS}


def test_a_gpu_takes_the_largest_that_fits() -> None:
    assert gpu_recipe(16_000_000_000).name == "flux1-512/16gb"
    assert gpu_recipe(25_000_000_000).name == "flux1-512/24gb"
    assert gpu_recipe(85_000_000_000).name == "flux1-512/80gb"
    assert gpu_recipe(8_000_000_000).name == "flux1-512/16gb"
    with pytest.raises(UsageError, match="the GPU's 3 GB are too few"):
        gpu_recipe(3_000_000_000)
