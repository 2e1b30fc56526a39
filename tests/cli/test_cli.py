import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Folders = Callable[..., Path]
RECIPES = Path(__file__).parents[2] / "recipes"


def undistill(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "undistill", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
    )


def test_import_and_help_do_without_torch_and_quickly() -> None:
    code = "import sys, undistill, undistill.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert undistill("--help").returncode == 0
        times.append(time.perf_counter() - start)
    assert min(times) < 0.6  # the best of five: these machines are noisy


def test_help_names_the_verbs() -> None:
    said = undistill("--help").stdout
    verbs = "demo prompts generate pairs enhance train evaluate diversity bench judge"
    assert all(f" {verb} " in said for verb in verbs.split())
    assert undistill("--version").stdout.strip() == "0.1.0"


def test_enhances_a_folder_with_the_shipped_head(image_folder: Folders, tmp_path: Path) -> None:
    folder, out = image_folder("in", 2), tmp_path / "out"
    done = undistill("enhance", folder, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "2 enhanced, 0 done before" in done.stdout
    entry = json.loads((out / ".undistill.json").read_text())["files"]["000.png"]
    assert (entry["head"], entry["strength"]) == ("flux1-lite", 1.0)
    assert "0 enhanced, 2 done before" in undistill("enhance", folder, "-o", out).stdout


def test_failures_are_reported_at_the_end_with_exit_code_1(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder("in", 2)
    (folder / "bad.png").write_text("no picture")
    done = undistill("enhance", folder, "-o", tmp_path / "out", "--strength", 0.5)
    assert done.returncode == 1
    assert "2 enhanced" in done.stdout
    assert "bad.png is no image" in done.stderr
    assert "undistill: 1 of 3 images failed" in done.stderr
    assert "Traceback" not in done.stderr


def one_line(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("undistill: ")
    assert words in lines[0]


def test_usage_errors_are_one_line_with_exit_code_2(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder("in", 1)
    out = tmp_path / "out"
    one_line(undistill("enhance", tmp_path / "gone", "-o", out), 2, "does not exist")
    one_line(undistill("enhance", folder, "-o", folder), 2, "would be overwritten")
    one_line(undistill("enhance", folder, "-o", folder / "000.png"), 2, "is a file")
    one_line(undistill("enhance", folder, "-o", out, "--head", "flux1-heavy"), 2, "no head 'flux1-heavy'")
    one_line(undistill("enhance", folder, "-o", out, "--split", "half"), 2, "LO:HI")
    assert not out.exists()
    sides = ("--student", folder, "--teacher", folder, "-o", out)
    one_line(undistill("train", tmp_path / "gone.yaml", *sides), 2, "No such file")
    one_line(undistill("train", RECIPES / "portraits-lite.yaml", *sides), 2, "no image")
    recipe = RECIPES / "portraits-lite.yaml"
    one_line(undistill("train", recipe, "--student", folder, "-o", out), 2, "give either --data")
    one_line(undistill("train", recipe, *sides, "--data", folder), 2, "give either --data")
    one_line(undistill("train", recipe, "--data", folder, "-o", out), 2, "is no pairs data set")
    one_line(undistill("enhance", folder, "-o", out, "--strength", 2), 2, "--strength")
    one_line(undistill("enhance", folder), 2, "-o")
    one_line(undistill("enhance", folder, "-o", out, "--device", "abacus"), 2, "device abacus can't be used here")
    one_line(undistill("train", RECIPES / "portraits-lite.yaml", *sides, "--device", "cuda:99"), 2, "")


def test_a_folder_that_cannot_be_written_is_one_line_with_exit_code_1(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder("in", 1)
    (tmp_path / "file").touch()
    one_line(undistill("enhance", folder, "-o", tmp_path / "file" / "out"), 1, "Not a directory")


def test_trains_then_enhances(image_folder: Folders, tmp_path: Path) -> None:
    student, teacher = image_folder("student", 12), image_folder("teacher", 12, seed=1)
    (tmp_path / "recipe.yaml").write_text(
        "mode: unpaired\nhead: {architecture: UNet, width: 4, depth: 3, residual: true}\n"
        "data: {crop: 64, val: '0.5:1'}\nsteps: 50\nlr: 1.0e-3\ndiscriminator_width: 4\n"
    )
    run = tmp_path / "run"
    arguments = ("train", tmp_path / "recipe.yaml", "--student", student, "--teacher", teacher, "-o", run)
    done = undistill(*arguments, "--split", "0:0.5", "--max-steps", 3)
    assert done.returncode == 0, done.stderr
    assert f"max steps at step 3 -> {run / 'head'}" in done.stdout
    one_line(undistill(*arguments), 2, "another recipe (data differ")  # another split
    one_line(undistill(*arguments, "--split", "0:0.5", "--set", "lr=2.0e-3"), 2, "another recipe (lr differ")
    one_line(undistill(*arguments, "--set", "lr"), 2, "KEY=VALUE")
    one_line(undistill(*arguments, "--set", "=5"), 2, "KEY=VALUE")
    done = undistill(*arguments, "--set", "data.train=0:0.5", "--max-steps", 3)
    assert done.returncode == 0, done.stderr
    one_line(undistill(*arguments, "--set", "lrr=1"), 2, "unknown key lrr; did you mean lr?")
    done = undistill("enhance", student, "-o", tmp_path / "out", "--head", run / "head")
    assert done.returncode == 0, done.stderr
    assert np.asarray(Image.open(tmp_path / "out" / "003.png")).shape == (72, 80, 3)


@pytest.mark.shared
def test_trains_the_portraits_recipe(portraits: Path, tmp_path: Path) -> None:
    done = undistill(
        "train", RECIPES / "portraits-lite.yaml", "--student", portraits / "schnell", "--teacher", portraits / "dev",
        "--teacher", portraits / "pro", "-o", tmp_path / "run", "--max-steps", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "head" / "model.safetensors").stat().st_size < 5e6


def test_evaluate_prints_tables_and_writes_results(image_folder: Folders, tmp_path: Path) -> None:
    student, teacher = image_folder("student", 9, (70, 70)), image_folder("teacher", 9, (70, 70))
    options = ("--student", student, "--teacher", teacher, "--features", "alex-1", "--limit", 8)
    out = tmp_path / "results.json"
    done = undistill("evaluate", *options, "--enhanced", f"same={student}", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "gap_closed" in done.stdout
    assert {"student", "teacher", "same", "combined"} <= set(json.loads(out.read_text())["rows"])
    assert "tuning baselines" in done.stderr
    done = undistill("evaluate", *options, "--enhanced", f"same={student}", "--no-baselines", "-o", out)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(out.read_text())["rows"]) == {"student", "teacher", "same"}


@pytest.mark.parametrize(
    ("enhanced", "message"),
    [
        (["nothing"], "--enhanced 'nothing': write NAME=DIR"),
        (["a=in", "a=in"], "--enhanced a is given twice"),
        (["blur=in"], "blur is a row of its own"),
        (["a=missing"], "missing is not a folder of images"),
    ],
)
def test_evaluate_refuses_in_one_line(enhanced: list[str], message: str, image_folder: Folders) -> None:
    folder = image_folder("in", 3)
    rows = [part for text in enhanced for part in ("--enhanced", text)]
    done = undistill("evaluate", "--student", folder, "--teacher", folder, *rows)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
