from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from research.tiny.realism import Questions, Realism
from research.tiny.recipe import RealismRecipe
from research.tiny.stages import load_student
from research.tiny.tokenizers import LENGTH
from torch.utils.data import DataLoader

from undistill.base.files import WEIGHTS
from undistill.training.loop import start
from undistill.training.method import train_step, validation_figures

RECIPE = Path(__file__).parents[3] / "research" / "tiny" / "recipes" / "realism.yaml"


def questions(count: int, *, endless: bool) -> Questions:
    ids = np.random.default_rng(0).integers(3, 200, (2, count, LENGTH), dtype=np.int16)
    return Questions(list(ids), 16, 8, seed=1, endless=endless)


def test_questions_go_on_without_end_with_new_noise() -> None:
    endless, once = questions(5, endless=True), questions(5, endless=False)
    assert len(endless) == 5
    first, later = ([endless[k] for k in range(k0, k0 + 5)] for k0 in (0, 5))
    for order in (first, later):
        assert {tuple(t5.tolist()) for t5, _, _ in order} == {
            tuple(t5.tolist()) for t5, _, _ in (once[k] for k in range(5))
        }
    assert len({tuple(noise.flatten().tolist()) for _, _, noise in (*first, *later)}) == 10
    assert all(torch.equal(a, b) for a, b in zip(endless[7], endless[7], strict=True))


@pytest.mark.e2e  # ten seconds and more
def test_a_lora_begins_with_no_change_and_moves_towards_the_faces() -> None:
    settings = yaml.safe_load(RECIPE.read_text()) | {"precision": "32-true", "lr": 2e-3, "steps": 8, "ema": 0.0}
    recipe = RealismRecipe(**settings | {"memory": 0.0, "mmd": 1.0, "lpips": 0.0})
    fabric = start(recipe, "cpu")
    student, vae, _ = load_student(WEIGHTS / "tiny-dev", WEIGHTS / "tiny-schnell")
    faces = torch.randint(0, 256, (24, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    training = questions(24, endless=True)
    method = Realism(fabric, recipe, student, vae, faces.repeat_interleave(8, 2).repeat_interleave(8, 3), training)
    method.prepare()
    batches = list(DataLoader(questions(8, endless=False), 8))
    plain, lora = method.sample(batches[0])
    assert torch.equal(plain, lora)
    before = validation_figures(method, batches)
    assert before["val_lpips"] == 0
    for step in range(6):
        train_step(method, batches, step)
    after = validation_figures(method, batches)
    assert after["val_mmd"] < 0.95 * before["val_mmd"]
    assert after["val_loss"] == pytest.approx(after["val_mmd"])
    assert torch.equal(method.sample(batches[0])[0], plain)
