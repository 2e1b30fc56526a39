from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from tests.training.test_unpaired import batch
from undistill.training.contrastive import Contrastive
from undistill.training.method import train_step, validation_figures
from undistill.training.recipe import ContrastiveRecipe, make_recipe

LITE = {"architecture": "ResnetGenerator", "width": 4, "blocks": 2, "residual": True}


def contrastive(head: dict[str, Any] | None = None, **changes: Any) -> Contrastive:
    torch.manual_seed(0)
    recipe = make_recipe(
        {
            "mode": "contrastive",
            "head": head or LITE,
            "data": {"crop": 64},
            "steps": 20,
            "lr": 2e-3,
            "discriminator_width": 8,
            **changes,
        }
    )
    assert isinstance(recipe, ContrastiveRecipe)
    return Contrastive(Fabric(accelerator="cpu", devices=1, precision=recipe.precision), recipe)


def test_it_learns_what_tells_teachers_from_students() -> None:
    method = contrastive(contrast=0.1, identity=0)
    for step in range(80):
        train_step(method, [batch(step)], step)
    x, _ = batch(99)
    with torch.no_grad():
        shift = (method.networks["G"](x) - x).mean((0, 2, 3))
    assert shift[1] < -0.1
    assert shift[2] < -0.1


def test_contrast_is_learned() -> None:
    method = contrastive(identity=0)
    losses = [float(train_step(method, [batch(step)], step)["loss_contrast"]) for step in range(30)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize(
    "head", [{"architecture": "UNet", "width": 4, "depth": 3}, {**LITE, "architecture": "EsaGenerator"}]
)
def test_any_head_can_be_the_generator(head: dict[str, Any]) -> None:
    method = contrastive(head, tone=1, chroma=1, augment=True)
    losses = train_step(method, [batch(0), batch(1)], 0)
    assert all(bool(loss.isfinite()) for loss in losses.values())
    assert float(losses["loss_contrast"]) > 0
    assert validation_figures(method, [batch(0)])["val_loss"] > 0


def test_the_state_is_whole() -> None:
    one, other = contrastive(), contrastive()
    train_step(one, [batch(0)], 0)
    other.load_extra_state(one.extra_state())
    assert torch.equal(other.gan.pool.images[0], one.gan.pool.images[0])
