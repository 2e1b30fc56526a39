import json
from pathlib import Path

import pytest

from undistill.base.errors import UsageError
from undistill.enhance.folds import read_folds


def folds(run: Path, *metrics: str) -> Path:
    """Folders of folds, with what their heads' metrics.json hold."""
    for number, text in enumerate(metrics):
        head = run / f"fold-{number}" / "head"
        head.mkdir(parents=True)
        low = number / len(metrics)
        (head.parent / "recipe.yaml").write_text(f"data: {{val: '{low}:{low + 1 / len(metrics)}'}}\n")
        (head / "metrics.json").write_text(text)
    return run


def test_folds_of_one_training(tmp_path: Path) -> None:
    whole = json.dumps({"step": 4})
    assert [fold.name for fold in read_folds(folds(tmp_path / "run", whole, whole))] == ["0/2", "1/2"]
    with pytest.raises(UsageError, match="at different steps"):
        read_folds(folds(tmp_path / "other", whole, '{"step": 5}'))


@pytest.mark.parametrize("text", ["{", "", "{}", "[]", '{"step": null}', '{"step": "a"}', '{"step": Infinity}'])
def test_a_broken_metrics_file_is_one_line(text: str, tmp_path: Path) -> None:
    run = folds(tmp_path / "run", text, '{"step": 4}')
    with pytest.raises(UsageError, match=r"fold-0/head/metrics\.json is broken: delete .*fold-0/head, then run"):
        read_folds(run)


@pytest.mark.parametrize("recipe", ["data: {val: 3}", "data: {val: null}", "data: {}", "3"])
def test_a_recipe_of_no_fold_is_one_line(recipe: str, tmp_path: Path) -> None:
    run = folds(tmp_path / "run", '{"step": 4}', '{"step": 4}')
    (run / "fold-0" / "recipe.yaml").write_text(recipe)
    with pytest.raises(UsageError, match=r"fold-0/recipe\.yaml is not the recipe of a fold"):
        read_folds(run)
