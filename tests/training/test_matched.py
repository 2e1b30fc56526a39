from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import TensorDataset

from undistill.losses import LPIPS
from undistill.metrics.distance import gaussian
from undistill.training.matched import Embedding, Matched
from undistill.training.recipe import MatchedRecipe, make_recipe


def sides(count: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Students of coarse noise, and teachers that are the same with less green and blue."""
    random = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.rand(count, 3, 8, 8, generator=random) * 2 - 1, 64, mode="bilinear")
    return x, (x - torch.tensor([0.0, 0.5, 0.5]).view(3, 1, 1)).clamp(-1, 1)


def matched(**changes: Any) -> Matched:
    torch.manual_seed(0)
    recipe = make_recipe(
        {
            "mode": "matched",
            "head": {"architecture": "ResnetGenerator", "width": 4, "blocks": 2, "residual": True},
            "data": {"crop": 64},
            "steps": 40,
            "lr": 1e-3,
            "ema": 0,
            "sides": [64],
            "memory": 0,
            **changes,
        }
    )
    assert isinstance(recipe, MatchedRecipe)
    return Matched(Fabric(accelerator="cpu", devices=1, precision=recipe.precision), recipe, TensorDataset(*sides()))


@torch.no_grad()
def test_the_embedding_gives_the_squared_mmd() -> None:
    lpips = LPIPS()
    embedding = Embedding(lpips, 64, seed=0)
    x, y = (Embedding.pooled(lpips.maps(side)) for side in sides(64))
    embedding.fit(x, y)
    difference = (embedding(x) - embedding(y)).mean(0).view(5, -1)
    for layer, (mean, whiten, _, _) in enumerate(embedding.projections):
        a, b = (((side[layer] - mean) @ whiten).numpy() for side in (x, y))
        exact = gaussian(a, a).mean() + gaussian(b, b).mean() - 2 * gaussian(a, b).mean()
        assert abs(float(difference[layer].square().sum()) - exact) < 0.1 * exact


@torch.no_grad()
def test_at_the_start_the_loss_is_the_students_distance() -> None:
    method = matched(lpips=0)
    method.optimizers["generator"].param_groups[0]["lr"] = 0
    x, y = sides()
    with torch.enable_grad():
        losses = method.step([(x[:8], y[:8])], 0)
    assert torch.allclose(losses["loss_mmd"], method.gaps[0].square().sum(), rtol=1e-4)
    assert losses["loss_lpips"] > 0


def test_outputs_come_to_be_distributed_like_the_teachers() -> None:
    method = matched(lpips=0)
    x, y = sides()
    before = method.validate([(x, y)])["val_loss"]
    for step in range(16):
        some = torch.arange(8) + 8 * (step % 4)
        method.step([(x[some], y[some])], step)
    with torch.no_grad():
        shift = (method.networks["G"](x) - x).mean((0, 2, 3))
    assert shift[1] < -0.02
    assert shift[2] < -0.02
    assert method.validate([(x, y)])["val_loss"] < before


def test_the_state_is_whole() -> None:
    one, other = matched(memory=0.5, precision="bf16-mixed"), matched()
    x, y = sides(8)
    for step in range(2):  # in the first one the head changes nothing yet
        one.step([(x, y)], step)
    other.load_extra_state(one.extra_state())
    assert torch.equal(other.moved[0], one.moved[0])
    assert bool(one.moved[0].any())
