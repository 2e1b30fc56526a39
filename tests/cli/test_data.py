"""Pairs data sets as input of enhance, train and evaluate."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Run
from undistill.dataset.enhanced import Enhanced

RECIPE = """
mode: paired
head: {architecture: UNet, width: 4, depth: 3, residual: true}
data: {crop: 64, train: "0:0.7", val: "0.7:1"}
steps: 2
lr: 1.0e-3
"""


def test_trains_enhances_and_measures(
    pairs_folder: Callable[..., Path], image_folder: Callable[..., Path], tmp_path: Path, undistill: Run
) -> None:
    pairs, run, out = pairs_folder("pairs", 12), tmp_path / "run", tmp_path / "out"
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    code, said, errors = undistill("train", tmp_path / "recipe.yaml", "--data", pairs, "-o", run, "--device", "cpu")
    assert not code, errors
    assert said == f"done at step 2 -> {run / 'head'}\n"

    arguments = ("enhance", pairs, "-o", out, "--head", run / "head", "--device", "cpu")
    assert undistill(*arguments)[1] == f"12 enhanced, 0 done before -> {out}\n"
    assert undistill(*arguments)[1] == f"0 enhanced, 12 done before -> {out}\n"
    assert Enhanced(out).description.head == str(run / "head")

    options = ("--features", "alex-1", "--device", "cpu", "--limit", 4, "--split", "0:0.5", "--no-baselines")
    results = tmp_path / "results.json"
    code, _, errors = undistill("evaluate", "--data", pairs, "--enhanced", f"mine={out}", *options, "-o", results)
    assert not code, errors
    assert json.loads(results.read_text())["rows"]["mine"]["lpips_student"]["n"] == 4

    alone = undistill("evaluate", "--data", pairs, *options, "--format", "json")[1]
    assert list(json.loads(alone)["rows"]) == ["student", "teacher"]  # no head yet, and no filters asked for

    def refuses(words: str, *arguments: object) -> None:
        code, _, errors = undistill(*arguments)
        assert code == 2
        assert len(errors.splitlines()) == 1
        assert words in errors

    refuses("images with --strength 1", *arguments, "--strength", 0.5)
    refuses("is a data set: enhance it by itself", "enhance", image_folder("in", 1), pairs, "-o", tmp_path / "mixed")
    refuses(
        "made of other pairs", "evaluate", "--data", pairs_folder("b", 12, seed=1), "--enhanced", f"a={out}", *options
    )
    refuses("holds pairs", "evaluate", "--data", pairs, "--enhanced", f"a={pairs}", *options)
    refuses("give either --data", "evaluate", "--student", pairs, "--enhanced", f"a={out}")
    refuses("give either --data", "train", tmp_path / "recipe.yaml", "--data", pairs, "--teacher", pairs, "-o", run)
