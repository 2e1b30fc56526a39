import os
import signal
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Run
from tests.training.test_run import settings
from undistill.base.record import Record
from undistill.dataset import fold_of
from undistill.training import loop, method


def test_a_loss_that_is_not_finite_ends_the_run_with_one_line(
    undistill: Run, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings("paired", save_every=1)))
    sides = [f"--{side}={image_folder(side, 12)}" for side in ("student", "teacher")]
    out = tmp_path / "nan"
    arguments = ["train", tmp_path / "recipe.yaml", *sides, "-o", out, "--max-steps", 4, "--device", "cpu"]
    code, _, said = undistill(*arguments, "--set", "lr=inf")
    assert code == 1
    (line,) = (line for line in said.splitlines() if line.startswith("undistill: "))
    assert line.startswith("undistill: step 1: weights of G are not finite; ")
    assert not (out / "last.safetensors").exists()
    assert not (out / "head").exists()


def test_broken_images_end_folds_before_the_first_step_or_are_left_out(
    undistill: Run, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings("mmd without pairs", steps=1, batch=1)))
    student, teacher, run = image_folder("student", 12), image_folder("teacher", 12, seed=1), tmp_path / "run"
    (student / "007.png").write_bytes(b"no picture")
    sides = ["--student", student, "--teacher", teacher]
    train = ["train", tmp_path / "recipe.yaml", *sides, "-o", run, "--device", "cpu", "--folds", 2, "--split", "all"]
    code, said, errors = undistill(*train)
    assert (code, said) == (1, "")
    line = errors.splitlines()[-1]
    assert line.startswith(f"undistill: 1 of 24 images can't be used: {student / '007.png'} is no image")
    assert line.endswith("; --skip-broken leaves them out")
    assert not run.exists()
    code, said, errors = undistill(*train, "--skip-broken")
    assert code is None
    assert len(said.splitlines()) == 3
    assert sum("007.png is no image" in line and line.endswith("; left out") for line in errors.splitlines()) == 3


def test_folds_and_images_enhanced_by_the_head_that_has_not_seen_them(
    undistill: Run, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings("mmd without pairs", steps=1, batch=1)))
    student, run, out = image_folder("student", 12), tmp_path / "run", tmp_path / "out"
    sides = [f"--student={student}", f"--teacher={image_folder('teacher', 12, seed=1)}"]
    train = ["train", tmp_path / "recipe.yaml", *sides, "-o", run, "--device", "cpu", "--folds", 2, "--split", "all"]
    code, said, _ = undistill(*train)
    assert code is None
    assert said.splitlines()[-2:] == [f"done at step 1 -> {run / f'fold-{fold}' / 'head'}" for fold in (0, 1)]
    trained_on = {fold: yaml.safe_load((run / f"fold-{fold}/recipe.yaml").read_text())["data"] for fold in (0, 1)}
    assert [(data["train"], data["val"]) for data in trained_on.values()] == [("0.5:1", "0:0.5"), ("0:0.5", "0.5:1")]

    code, said, _ = undistill("enhance", student, "-o", out, "--folds", run)
    assert (code, said) == (None, f"12 enhanced, 0 done before -> {out}\n")
    files = Record(out).files
    assert {entry["fold"] for entry in files.values()} == {"0/2", "1/2"}
    for name, entry in files.items():
        fold = fold_of(Path(name).stem, 2)
        assert (entry["fold"], entry["head"]) == (f"{fold}/2", str(run / f"fold-{fold}" / "head"))
    assert undistill("enhance", student, "-o", out, "--folds", run)[1] == f"0 enhanced, 12 done before -> {out}\n"

    for words, arguments in (
        ("give either --head, or --folds", (student, "--folds", run, "--head", "tiny-best")),
        (f"{student} holds no folds", (student, "--folds", student)),
    ):
        code, _, errors = undistill("enhance", *arguments, "-o", out)
        assert (code, len(errors.splitlines())) == (2, 1)
        assert words in errors
    rmtree(run / "fold-1" / "head")
    assert f"{run / 'fold-1'} has no head" in undistill("enhance", student, "-o", out, "--folds", run)[2]
    other = [*train[:-3], 3, "-o", tmp_path / "other"]
    for words, changes in (
        ("keep=last", ["--split", "all", "--set", "keep=best"]),
        ("start=null", ["--split", "all", "--set", f"start={run}"]),
        ("--split all", []),
    ):
        code, _, errors = undistill(*other, *changes)
        assert code == 2
        assert words in errors
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_training_and_sweeps_end_with_the_signals_code(
    number: signal.Signals,
    code: int,
    undistill: Run,
    pairs_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = method.train_step

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), number)
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", interrupted)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings("paired")))
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"a": {"recipe": "recipe.yaml", "grid": {"batch": [2]}}}))
    where = ("--data", pairs_folder("pairs", 16), "--device", "cpu", "-o")
    ended, _, said = undistill("train", tmp_path / "recipe.yaml", *where, tmp_path / "run")
    assert ended == code
    assert "stopped at step 1; the same command goes on from there" in said
    ended, _, said = undistill("sweep", "run", tmp_path / "sweep.yaml", *where, tmp_path / "sweep")
    assert ended == code
    assert "interrupted; the same command goes on" in said
    assert len(list(tmp_path.rglob("last.safetensors"))) == 2
    monkeypatch.undo()
    for arguments in (
        ("train", tmp_path / "recipe.yaml", *where, tmp_path / "run"),
        ("sweep", "run", tmp_path / "sweep.yaml", *where, tmp_path / "sweep"),
    ):
        assert undistill("--quiet", *arguments) == (None, "", "")
