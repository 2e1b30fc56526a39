"""Builds the wheel, installs it outside the checkout, beside the dependencies that are there, and uses it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_commands import ROOT, faces


def call(*command: object, cwd: Path, **environment: str) -> str:
    """What it prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.e2e
def test_the_wheel(tmp_path: Path) -> None:
    call("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    call("pip", "install", "--quiet", "--no-deps", "--target", installed, wheel, cwd=tmp_path)

    package = installed / "undistill"
    for file in (
        "recipes/portraits-lite.yaml",
        "recipes/tiny/best.yaml",
        "weights/lpips-alex.safetensors",
        "weights/flux1-lite/model.safetensors",
        "weights/tiny-dev/transformer/diffusion_pytorch_model.safetensors",
        "report/templates/demo.html",
        "pairs/specs/flux1.yaml",
        "reproduce/paper.yaml",
        "py.typed",
    ):
        assert (package / file).is_file()
    tracked = subprocess.run(["git", "ls-files", "src/undistill"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.splitlines():
        assert (package.parent / Path(name).relative_to("src")).is_file()
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} <= {"undistill", "bin"}

    for side in ("student", "teacher"):
        faces(tmp_path / side, 30, 50 * (side == "teacher"))

    def undistill(*words: object) -> str:
        return call("undistill", *words, cwd=tmp_path, PYTHONPATH=str(installed))

    assert "portraits-lite" in undistill("recipes")
    undistill("enhance", tmp_path / "student" / "000.png", "-o", "enhanced")
    assert (tmp_path / "enhanced" / "000.png").is_file()
    undistill("train", "portraits-lite", "--student", "student", "--teacher", "teacher", "-o", "run", "--max-steps", 2)
    assert (tmp_path / "run" / "head" / "model.safetensors").is_file()
