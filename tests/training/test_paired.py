from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch.nn import functional as F

from undistill.losses import gradient, l1
from undistill.training.method import train_step, validation_figures
from undistill.training.paired import Paired
from undistill.training.recipe import PairedRecipe, make_recipe


def paired(**changes: Any) -> Paired:
    torch.manual_seed(0)
    recipe = make_recipe(
        {
            "mode": "paired",
            "head": {"architecture": "ResnetGenerator", "width": 4, "blocks": 1, "norm": "pixel", "residual": True},
            "data": {"crop": 64},
            "steps": 20,
            "lr": 1e-3,
            **changes,
        }
    )
    assert isinstance(recipe, PairedRecipe)
    return Paired(Fabric(accelerator="cpu", devices=1, precision=recipe.precision), recipe)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    x = F.interpolate(torch.rand(2, 3, 8, 8, generator=random), (64, 64), mode="bicubic") - 0.5
    return x, x + torch.tensor([0.3, -0.3, -0.3]).view(3, 1, 1)


def test_the_loss_is_the_papers() -> None:
    method = paired()
    x, y = batch()
    z = x + torch.linspace(0, 0.3, 64)

    def losses(method: Paired) -> list[float]:
        return [float(loss) for loss in method.losses({}, (x, y), (z,)).values()]

    structure, lpips = losses(method)
    assert structure == float(gradient(x, z)) > 0
    assert lpips == pytest.approx(float(method.lpips(y, z)))
    assert losses(paired(structure="l1"))[0] == float(l1(x, z))
    assert losses(paired(structure="none"))[0] == 0.0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_learns(precision: str) -> None:
    method = paired(precision=precision, lr=5e-3, ema=0)
    before = validation_figures(method, [batch(9)])["val_loss"]
    for step in range(20):
        train_step(method, [batch(step)], step)
    assert validation_figures(method, [batch(9)])["val_loss"] < 0.9 * before


def test_the_learning_rate_rises_if_asked() -> None:
    assert [paired().schedule(progress) for progress in (0.0, 0.5)] == [1.0, 1.0]
    rates = [paired(warmup=0.5).schedule(progress) for progress in (0.0, 0.25, 0.5, 0.9)]
    assert rates == pytest.approx([0, 0.5, 1, 1], abs=3e-3)
