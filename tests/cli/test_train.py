from collections.abc import Callable
from pathlib import Path

import yaml

from tests.cli.conftest import Run
from tests.training.test_run import settings


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
