"""What torchrun starts in test_ranks.py, once, for time.

Trainings one after another; then the command, with an image that is broken; and with whole ones, to be interrupted.
"""

import os
import sys
from pathlib import Path
from typing import Any

from tests.training.test_run import settings
from undistill.cli import main
from undistill.dataset.shard import Pairs
from undistill.training.recipe import Recipe, make_recipe
from undistill.training.run import train

ALIKE: dict[str, dict[str, Any]] = {
    "paired": {"accumulate": 2},
    "unpaired": {"pool": 0},
    "unpaired-pool": {"pool": 5, "augment": True, "accumulate": 2},
    "contrastive": {"augment": True, "data": {"crop": 64, "train": "0:0.7", "val": "0.93:1"}},
    "mmd": {"sides": [64], "accumulate": 2},
}
"""What two processes must do as one does."""


def recipe(name: str) -> Recipe:
    # Adam's first steps depend on little but a gradient's sign: long ones soon make much of what is rounded otherwise.
    changes = {
        "batch": 4,
        "steps": 3,
        "lr": 1e-5,
        "log_every": 1,
        "save_every": 100,
        "validate_every": 3,
        **ALIKE[name],
    }
    return make_recipe(settings(name.partition("-")[0], **changes))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    source = Pairs(folder / "pairs")
    for name in ALIKE:
        train(recipe(name), source, folder / "two" / name, device="cpu")
    train(recipe("paired"), source, folder / "resumed", max_steps=2, device="cpu")
    sides = [f"--{side}={folder / side}" for side in ("student", "teacher")]
    sys.argv = ["undistill", "train", str(folder / "recipe.yaml"), *sides, "-o", str(folder / "broken")]
    try:
        main()
    except SystemExit as end:
        (folder / f"ended-{os.environ['RANK']}").write_text(str(end.code))
    sides = [f"--{side}={folder / f'whole-{side}'}" for side in ("student", "teacher")]
    sys.argv = ["undistill", "train", str(folder / "long.yaml"), *sides, "-o", str(folder / "run")]
    main()
