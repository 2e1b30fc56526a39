from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from undistill.training.method import train_step, validation_figures
from undistill.training.recipe import UnpairedRecipe, make_recipe
from undistill.training.unpaired import Unpaired


def unpaired(head: dict[str, Any] | None = None, **changes: Any) -> Unpaired:
    torch.manual_seed(0)
    recipe = make_recipe(
        {
            "mode": "unpaired",
            "head": head
            or {"architecture": "ResnetGenerator", "width": 4, "blocks": 1, "norm": "pixel", "residual": True},
            "data": {"crop": 64},
            "steps": 20,
            "lr": 1e-3,
            "discriminator_width": 8,
            **changes,
        }
    )
    assert isinstance(recipe, UnpairedRecipe)
    return Unpaired(Fabric(accelerator="cpu", devices=1, precision=recipe.precision), recipe)


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Students are grey noise, teachers the same but darker and red."""
    random = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(2, 1, 64, 64, generator=random).expand(2, 3, 64, 64) - 0.5 for _ in range(2))
    return x, y - torch.tensor([0.1, 0.5, 0.5]).view(3, 1, 1)


@pytest.mark.parametrize("changes", [{}, pytest.param({"augment": True}, marks=pytest.mark.e2e)], ids=str)
def test_it_learns_what_tells_teachers_from_students(changes: dict[str, Any]) -> None:
    method = unpaired(cycle=1, lr=2e-3, **changes)
    for step in range(60):
        train_step(method, [batch(step)], step)
    x, y = batch(99)
    with torch.no_grad():
        shift = (method.networks["G"](x) - x).mean((0, 2, 3))
        back = (method.networks["F"](y) - y).mean((0, 2, 3))
    assert shift[1] < -0.1
    assert shift[2] < -0.1
    assert back[1] > 0.1


def test_in_bfloat16_weights_keep_their_precision() -> None:
    """A few steps: where a CPU has no bfloat16 each takes half a second."""
    method = unpaired(cycle=1, lr=2e-3, precision="bf16-mixed")
    before = {name: weight.clone() for name, weight in method.networks["G"].state_dict().items()}
    for step in range(4):
        assert all(bool(loss.isfinite()) for loss in train_step(method, [batch(step)], step).values())
    after = method.networks["G"].state_dict()
    assert all(weight.dtype == torch.float32 for weight in after.values())
    assert any(not torch.equal(before[name], weight) for name, weight in after.items())


def test_identity_heads_pass_the_full_cycle() -> None:
    values = validation_figures(unpaired(), [batch(0)])
    assert values["val_ssim_cycle"] == pytest.approx(1.0, abs=1e-4)


def test_discriminators_learn_only_from_their_own_step() -> None:
    method = unpaired()
    train_step(method, [batch(0)], 0)
    discriminator = method.networks["D_Y"]
    assert all(parameter.requires_grad for parameter in discriminator.parameters())
    assert len(method.gan["Y"].pool.images) == 2


def test_decays_in_the_second_half() -> None:
    method = unpaired()
    rates = [method.schedule(progress) for progress in (0.0, 0.25, 0.5, 0.75, 0.99)]
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.02])


def test_any_head_can_be_the_generator() -> None:
    method = unpaired(head={"architecture": "UNet", "width": 4, "depth": 3})
    losses = train_step(method, [batch(0), batch(1)], 0)
    assert all(bool(loss.isfinite()) for loss in losses.values())


def test_the_average_follows_slowly() -> None:
    method = unpaired(ema=0.5)
    start = method.averages["G"].module.state_dict()["layers.1.weight"].clone()
    for step in range(8):
        train_step(method, [batch(step)], step)
    now = method.networks["G"].state_dict()["layers.1.weight"]
    average = method.averages["G"].module.state_dict()["layers.1.weight"]
    assert 0 < (average - start).norm() < (now - start).norm()
