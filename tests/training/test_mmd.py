from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import TensorDataset

from undistill.training.embedding import fit_embeddings
from undistill.training.method import train_step, validation_figures
from undistill.training.mmd import Mmd
from undistill.training.recipe import MmdRecipe, make_recipe


def sides(count: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Students of coarse noise, and teachers that are the same with less green and blue."""
    random = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.rand(count, 3, 8, 8, generator=random) * 2 - 1, 64, mode="bilinear")
    return x, (x - torch.tensor([0.0, 0.5, 0.5]).view(3, 1, 1)).clamp(-1, 1)


def mmd(**changes: Any) -> Mmd:
    torch.manual_seed(0)
    recipe = make_recipe(
        {
            "mode": "mmd",
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
    assert isinstance(recipe, MmdRecipe)
    x, y = sides()
    fabric = Fabric(accelerator="cpu", devices=1, precision=recipe.precision)
    method = Mmd(fabric, recipe, TensorDataset(x, y), (len(x), len(y)))
    method.prepare()
    return method


@torch.no_grad()
def test_at_the_start_the_loss_is_the_students_distance() -> None:
    method = mmd(lpips=0)
    method.optimizers["generator"].param_groups[0]["lr"] = 0
    x, y = sides()
    with torch.enable_grad():
        losses = train_step(method, [(x[:8], y[:8])], 0)
    assert torch.allclose(losses["loss_mmd"], method.mmds[0].gap.square().sum(), rtol=1e-4)
    assert losses["loss_lpips"] > 0


def test_outputs_come_to_be_distributed_like_the_teachers() -> None:
    method = mmd(lpips=0)
    x, y = sides()
    before = validation_figures(method, [(x, y)])["val_loss"]
    for step in range(32):
        some = torch.arange(8) + 8 * (step % 4)
        train_step(method, [(x[some], y[some])], step)
    with torch.no_grad():
        shift = (method.networks["G"](x) - x).mean((0, 2, 3))
    assert shift[1] < -0.02
    assert shift[2] < -0.02
    assert validation_figures(method, [(x, y)])["val_loss"] < before


def test_without_pairs_the_teacher_of_a_student_is_not_looked_at() -> None:
    """LPIPS holds the output to its input, and the others hold what they are to hold."""
    method = mmd(anchor="student", mmd=0, tone=1, chroma=1, neutral=1, even=1, view=32)
    x, y = sides(8)
    losses = train_step(method, [(x, y)], 0)
    assert float(losses["loss_lpips"]) < 1e-3  # a head that was not trained changes next to nothing
    again = mmd(anchor="student", mmd=0, tone=1, chroma=1, neutral=1, even=1, view=32)
    assert train_step(again, [(x, y.flip(0))], 0) == losses


def test_an_image_that_comes_twice_counts_once() -> None:
    """Of 70 student images and 5 teacher images, which come 14 times each."""
    x, y = sides(70)[0], sides(5)[1]
    method, once = mmd(shrink=True), mmd(shrink=True)
    method.training, method.counts = TensorDataset(x, y.repeat(14, 1, 1, 1)), (70, 5)
    for each in (method, once):
        each.mmds[0].embedding.projections = []
    method.prepare()
    fit_embeddings(once.fabric, once.mmds, [(x, y)], shrink=True)
    assert float((method.mmds[0].gap - once.mmds[0].gap).norm()) < 1e-3 * float(once.mmds[0].gap.norm())


def test_middle_and_corners_take_turns() -> None:
    method = mmd(view=32)
    seen = []
    for step in range(10):
        method.begin(step, [])
        seen.append(method.place)
    assert seen[::2] == [(0.5, 0.5)] * 5
    assert seen[1::2] == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0)]


def test_the_state_is_whole() -> None:
    one, other = mmd(memory=0.5, precision="bf16-mixed"), mmd()
    x, y = sides(8)
    for step in range(2):  # in the first one the head changes nothing yet
        train_step(one, [(x, y)], step)
    other.load_extra_state(one.extra_state())
    assert torch.equal(other.mmds[0].moved, one.mmds[0].moved)
    assert bool(one.mmds[0].moved.any())
