"""The command line: a few commands in processes of their own, the others in this one, which has imported torch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run

Folders = Callable[..., Path]
RECIPES = Path(__file__).parents[2] / "recipes"


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
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
    before = os.times()
    assert process("--help").returncode == 0
    after = os.times()
    # Of its processor, since others may be at work: half a second on two idle cores; torch alone would take three.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.2


def test_help_names_the_verbs(undistill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, said, _ = undistill("--help")
    assert not code
    verbs = "demo prompts generate pairs enhance train evaluate diversity bench judge"
    assert all(f" {verb} " in said for verb in verbs.split())
    assert undistill("--version")[1].strip() == "0.1.0"


def test_enhances_a_folder_with_the_shipped_head(image_folder: Folders, tmp_path: Path, undistill: Run) -> None:
    folder, out = image_folder("in", 2), tmp_path / "out"
    done = process("enhance", folder, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "2 enhanced, 0 done before" in done.stdout
    entry = json.loads((out / ".undistill.json").read_text())["files"]["000.png"]
    assert (entry["head"], entry["strength"]) == ("flux1", 1.0)
    assert "0 enhanced, 2 done before" in undistill("enhance", folder, "-o", out)[1]


def test_failures_are_reported_at_the_end_with_exit_code_1(
    image_folder: Folders, tmp_path: Path, undistill: Run
) -> None:
    folder = image_folder("in", 2)
    (folder / "bad.png").write_text("no picture")
    code, said, errors = undistill("enhance", folder, "-o", tmp_path / "out", "--strength", 0.5)
    assert code == 1
    assert "2 enhanced" in said
    assert "bad.png is no image" in errors
    assert "undistill: 1 of 3 images failed" in errors
    assert "Traceback" not in errors


def one_line(code: object, errors: str, expected: int, words: str) -> None:
    lines = [line for line in errors.splitlines() if line.strip()]
    assert code == expected, errors
    assert len(lines) == 1, errors
    assert lines[0].startswith("undistill: ")
    assert words in lines[0]


@pytest.fixture
def refuses(undistill: Run) -> Callable[..., None]:
    """refuses(2, "does not exist", "enhance", ...): one line with these words, and this exit code."""

    def check(expected: int, words: str, *arguments: object) -> None:
        code, _, errors = undistill(*arguments)
        one_line(code, errors, expected, words)

    return check


def test_usage_errors_are_one_line_with_exit_code_2(
    image_folder: Folders, tmp_path: Path, refuses: Callable[..., None]
) -> None:
    folder = image_folder("in", 1)
    out = tmp_path / "out"
    done = process("enhance", folder, "-o", out, "--head", "flux1-heavy")
    one_line(done.returncode, done.stderr, 2, "no head 'flux1-heavy'")
    refuses(2, "does not exist", "enhance", tmp_path / "gone", "-o", out)
    refuses(2, "would be overwritten", "enhance", folder, "-o", folder)
    refuses(2, "is a file", "enhance", folder, "-o", folder / "000.png")
    refuses(2, "LO:HI", "enhance", folder, "-o", out, "--split", "half")
    assert not out.exists()
    recipe = RECIPES / "portraits-lite.yaml"
    sides = ("--student", folder, "--teacher", folder, "-o", out)
    refuses(2, "No such file", "train", tmp_path / "gone.yaml", *sides)
    refuses(2, "no image", "train", recipe, *sides)
    refuses(2, "give either --data", "train", recipe, "--student", folder, "-o", out)
    refuses(2, "give either --data", "train", recipe, *sides, "--data", folder)
    refuses(2, "is no pairs data set", "train", recipe, "--data", folder, "-o", out)
    refuses(2, "--strength", "enhance", folder, "-o", out, "--strength", 2)
    refuses(2, "nothing to enhance", "enhance")
    refuses(2, "device abacus can't be used here", "enhance", folder, "-o", out, "--device", "abacus")
    refuses(2, "", "train", recipe, *sides, "--device", "cuda:99")


def test_a_folder_that_cannot_be_written_is_one_line_with_exit_code_1(
    image_folder: Folders, tmp_path: Path, refuses: Callable[..., None]
) -> None:
    folder = image_folder("in", 1)
    (tmp_path / "file").touch()
    refuses(1, "Not a directory", "enhance", folder, "-o", tmp_path / "file" / "out")


def test_trains_then_enhances(
    image_folder: Folders, tmp_path: Path, undistill: Run, refuses: Callable[..., None]
) -> None:
    student, teacher = image_folder("student", 12), image_folder("teacher", 12, seed=1)
    (tmp_path / "recipe.yaml").write_text(
        "mode: unpaired\nhead: {architecture: UNet, width: 4, depth: 3, residual: true}\n"
        "data: {crop: 64, val: '0.5:1'}\nsteps: 50\nlr: 1.0e-3\ndiscriminator_width: 4\n"
    )
    run = tmp_path / "run"
    arguments = ("train", tmp_path / "recipe.yaml", "--student", student, "--teacher", teacher, "-o", run)
    code, said, errors = undistill(*arguments, "--split", "0:0.5", "--max-steps", 3)
    assert not code, errors
    assert f"max steps at step 3 -> {run / 'head'}" in said
    refuses(2, "another recipe (data differ", *arguments)  # another split
    refuses(2, "another recipe (lr differ", *arguments, "--split", "0:0.5", "--set", "lr=2.0e-3")
    refuses(2, "KEY=VALUE", *arguments, "--set", "lr")
    refuses(2, "KEY=VALUE", *arguments, "--set", "=5")
    code, _, errors = undistill(*arguments, "--set", "data.train=0:0.5", "--max-steps", 3)
    assert not code, errors
    refuses(2, "unknown key lrr; did you mean lr?", *arguments, "--set", "lrr=1")
    code, _, errors = undistill("enhance", student, "-o", tmp_path / "out", "--head", run / "head")
    assert not code, errors
    assert np.asarray(Image.open(tmp_path / "out" / "003.png")).shape == (72, 80, 3)


@pytest.mark.e2e
@pytest.mark.shared
def test_trains_the_portraits_recipe(portraits: Path, tmp_path: Path, undistill: Run) -> None:
    code, _, errors = undistill(
        "train", RECIPES / "portraits-lite.yaml", "--student", portraits / "schnell", "--teacher", portraits / "dev",
        "--teacher", portraits / "pro", "-o", tmp_path / "run", "--max-steps", 2,
    )  # fmt: skip
    assert not code, errors
    assert (tmp_path / "run" / "head" / "model.safetensors").stat().st_size < 5e6


def test_evaluate_prints_tables_and_writes_results(
    image_folder: Folders, tmp_path: Path, undistill: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    student, teacher = image_folder("student", 9, (70, 70)), image_folder("teacher", 9, (70, 70))
    options = ("--student", student, "--teacher", teacher, "--features", "alex-1", "--limit", 8)
    out = tmp_path / "results.json"
    code, said, errors = undistill("evaluate", *options, "--enhanced", f"same={student}", "-o", out)
    assert not code, errors
    assert "gap_closed" in said
    assert {"student", "teacher", "same", "combined"} <= set(json.loads(out.read_text())["rows"])
    assert "tuning baselines" in errors
    fewer = ("evaluate", *options, "--no-baselines", "--enhanced", f"same={student}", "-o", out)
    code, _, errors = undistill(*fewer, "--min-side", 9)
    assert code == 2
    assert f"{out} was made with other min_side, baselines: --overwrite replaces it; or give another name" in errors
    assert "combined" in json.loads(out.read_text())["rows"]
    assert undistill(*fewer, "--overwrite")[0] is None
    code, said, errors = undistill(*fewer, "--format", "json")  # the same once more
    assert not code, errors
    assert set(json.loads(said)["rows"]) == {"student", "teacher", "same"}
    assert json.loads(said) == json.loads(out.read_text())


@pytest.mark.parametrize(
    ("enhanced", "message"),
    [
        (["nothing"], "--enhanced 'nothing': write NAME=DIR"),
        (["a=in", "a=in"], "--enhanced a is given twice"),
        (["blur=in"], "blur is a row of its own"),
        (["a=missing"], "missing is not a folder of images"),
    ],
)
def test_evaluate_refuses_in_one_line(
    enhanced: list[str], message: str, image_folder: Folders, refuses: Callable[..., None]
) -> None:
    folder = image_folder("in", 3)
    rows = [part for text in enhanced for part in ("--enhanced", text)]
    refuses(2, message, "evaluate", "--student", folder, "--teacher", folder, *rows)


def test_evaluate_leaves_a_file_of_others(image_folder: Folders, refuses: Callable[..., None]) -> None:
    folder = image_folder("in", 3)
    image = folder / "000.png"
    before = image.read_bytes()
    sides = ("--student", folder, "--teacher", folder, "--enhanced", f"same={folder}")
    refuses(2, "not made by this command", "evaluate", *sides, "-o", image)
    assert image.read_bytes() == before
