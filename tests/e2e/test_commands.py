"""Runs the commands of the README and the docs in a fresh folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ROOT / "docs" / "commands.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def written(page: Path) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines()]


def faces(folder: Path, count: int, warm: int) -> None:
    """Pictures large enough for every recipe; what they show does not matter here."""
    folder.mkdir()
    for number in range(count):
        coarse = np.random.default_rng([number, warm]).integers(0, 200, (9, 9, 3), dtype=np.uint8)
        coarse[..., 0] += np.uint8(warm)
        Image.fromarray(coarse).resize((420, 430), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """What the README and the docs assume to be there: folders of the checkout, and folders of images."""
    for name in ("recipes", "docs", "research"):
        (tmp_path / name).symlink_to(ROOT / name)
    faces(tmp_path / "portraits", 3, 0)
    faces(tmp_path / "student", 30, 0)
    faces(tmp_path / "teacher", 30, 50)
    return tmp_path


def run(command: str, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def commands(page: Path) -> list[str]:
    """The page's commands, the long ones shortened: a few steps of training, a few images drawn or measured."""
    lines = written(page)
    if page != COMMANDS:  # timing needs nothing that was made before: what that page times is timed there
        lines = [line for line in lines if not (line.startswith("undistill bench") and line in written(COMMANDS))]
    lines = [re.sub(r"--max-steps (\d+?)0{1,2}$", r"--max-steps \1", line) for line in lines]
    few = page.name == "ten-steps.md"  # of whose pairs a fifth is measured, which takes eight
    lines = [line.replace("--count 500 ", "--count 64 " if few else "--count 20 ") for line in lines]
    shorter = {
        "undistill train": "--max-steps 3",
        "undistill evaluate": "--limit 8",
        "undistill pairs create": "--limit 64" if few else "--limit 8",
        "undistill diversity": "--split 0:0.5",
        "undistill bench": "--rounds 1 --sizes 64",
        "python -m research.simulate": "--repeats 3",
    }
    for verb, option in shorter.items():
        lines = [
            f"{line} {option}" if line.startswith(verb) and option.split()[0] not in line else line for line in lines
        ]
    # The recipe's bfloat16 takes many times as long on a CPU that has none.
    return [f"{line} --set precision=32-true" if line.startswith("undistill train") else line for line in lines]


@pytest.mark.e2e
@pytest.mark.timeout(1800)  # beside other tests, which the budget's plan can't know of
def test_a_head_of_ones_own(tmp_path: Path) -> None:
    """A quarter of an hour: first, so that the pages run beside it."""
    run("undistill fit --pair tiny --quality draft --budget 15m -o my-head", tmp_path)
    metrics = json.loads((tmp_path / "my-head" / "metrics.json").read_text())
    assert metrics["outcome"] in ("better", "no better", "no gap", "changes people")
    page = (tmp_path / "my-head" / "index.html").read_text()
    assert "95% interval" in page
    assert 'http-equiv="refresh"' not in page


@pytest.mark.e2e
@pytest.mark.timeout(2700)  # commands.md has the largest of all, `undistill reproduce --quick`
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.xdist_group("ray")) if "--engine ray" in page.read_text() else page
        for page in PAGES
    ],
    ids=lambda page: page.name,
)
def test_commands_of_the_page(page: Path, request: pytest.FixtureRequest) -> None:
    # The README begins with nothing: what its commands need is made by those before.
    fresh: Path = request.getfixturevalue("tmp_path" if page.name == "README.md" else "fresh")
    for command in commands(page):
        run(command, fresh)
    for block in blocks(page, "python"):
        (fresh / "example.py").write_text(block)
        run("python example.py", fresh)
    names = ["000.png", "001.png", "002.png"]
    if page.name == "README.md":
        assert len(list((fresh / "enhanced").glob("*.webp"))) == 8  # the samples
        assert [path.name for path in (fresh / "enhanced-portraits").glob("*.png")] == ["000000.png"]
        assert (fresh / "enhanced.png").exists()
    if page == COMMANDS:
        for folder, expected in (("enhanced-portraits", names), ("half", ["001.png"]), ("enhanced-by-mine", names)):
            assert sorted(path.name for path in (fresh / folder).glob("*.png")) == expected
        assert len(list((fresh / "enhanced").glob("*.webp"))) == 8  # the samples
        assert (fresh / "run" / "head" / "model.safetensors").exists()
        assert "mine" in json.loads((fresh / "results.json").read_text())["rows"]


@pytest.mark.e2e
def test_the_demo(tmp_path: Path) -> None:
    run("undistill demo -o demo", tmp_path)
    assert (tmp_path / "demo" / "index.html").exists()
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    (head,) = results["settings"]["enhanced"]
    for metric in ("gap_closed", "identity"):
        assert results["rows"][head][metric]["value"] is not None, results["rows"][head][metric]


@pytest.mark.e2e
def test_the_table_of_heads() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "research.heads"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs" / "heads.md").read_text()
    assert done.stdout.strip() in page
