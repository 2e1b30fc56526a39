"""How fast does ESA-CycleGAN train, beside the loop as it was published?

    python -m research.training_speed [--size 128] [--batch 4] [--turns 8] [--compiled]

Takes turns, in one process: in each turn every loop trains on the same images. Prints, as a Markdown table, how many
samples a second (a student image and a teacher image) each one trains on, the median of its turns, and by what factor
it is faster: the geometric mean over the turns, each within itself, with its 95% interval. A CPU that has no bfloat16
would take many times as long in it, and is not asked to.
"""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from itertools import chain
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from scipy.stats import t as student_t
from torch import Tensor, nn

from undistill.base.command import run
from undistill.base.device import has_bfloat16, pick_device
from undistill.base.progress import progressed
from undistill.losses import ImagePool, adversarial, l1
from undistill.training.loop import start
from undistill.training.method import train_step
from undistill.training.recipe import UnpairedRecipe, make_recipe
from undistill.training.unpaired import Unpaired


def published(
    networks: dict[str, nn.Module], recipe: UnpairedRecipe
) -> Callable[[Tensor, Tensor], tuple[float, float]]:
    """The step of CycleGAN's repository (junyanz/pytorch-CycleGAN-and-pix2pix): eager, float32, one image a side.

    Without identity loss, which is on there by default and costs two more passes of the generators: the paper's recipe
    has none.

    Args:
        networks: those of `Unpaired`; they are trained.

    Returns: the step; it takes images (1, 3, H, W), and returns the generators' loss and the discriminators'.
    """
    generators, judges = [networks["G"], networks["F"]], [networks["D_Y"], networks["D_X"]]
    pools = [ImagePool(recipe.pool), ImagePool(recipe.pool)]
    random = np.random.default_rng(0)
    optimizers = [
        torch.optim.Adam(chain(*(network.parameters() for network in some)), lr=recipe.lr, betas=(0.5, 0.999))
        for some in (generators, judges)
    ]

    def step(x: Tensor, y: Tensor) -> tuple[float, float]:
        real = x, y
        fakes = [generators[side](real[side]) for side in (0, 1)]
        cycled = [generators[1 - side](fakes[side]) for side in (0, 1)]
        for judge in judges:
            judge.requires_grad_(False)
        optimizers[0].zero_grad()
        loss = torch.zeros((), device=x.device)
        for side in (0, 1):
            loss = (
                loss + adversarial(judges[side](fakes[side]), real=True) + recipe.cycle * l1(real[side], cycled[side])
            )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizers[0].step()
        for judge in judges:
            judge.requires_grad_(True)
        optimizers[1].zero_grad()
        judged = torch.zeros((), device=x.device)
        for side in (0, 1):
            shown = pools[side].exchange(fakes[side].detach(), random)
            wrong = adversarial(judges[side](real[1 - side]), real=True) + adversarial(judges[side](shown), real=False)
            (0.5 * wrong).backward()  # type: ignore[no-untyped-call]
            judged += 0.5 * wrong.detach()
        optimizers[1].step()
        return float(loss.detach()), float(judged)

    return step


def esa_recipe(size: int, batch: int, width: int = 64, blocks: int = 9, **changes: object) -> UnpairedRecipe:
    """The paper's ESA-CycleGAN, at a size."""
    recipe = make_recipe(
        {
            "mode": "unpaired",
            "head": {"architecture": "EsaGenerator", "width": width, "blocks": blocks},
            "data": {"crop": size},
            "discriminator_width": width,
            "batch": batch,
            "steps": 1,
            "lr": 1e-4,
            "cycle": 2,
            **changes,
        }
    )
    assert isinstance(recipe, UnpairedRecipe)
    return recipe


def speedup(rates: Sequence[float], bases: Sequence[float]) -> tuple[float, float, float]:
    """The geometric mean of the turns' ratios, and its 95% interval (Student's t on their logarithms)."""
    logs = np.log(np.asarray(rates) / np.asarray(bases))
    half = student_t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
    low, middle, high = np.exp(logs.mean() + half * np.array([-1, 0, 1])).tolist()
    return middle, low, high


def main(
    size: Annotated[int, typer.Option(help="Side of the images, px.  [default: 512 on a GPU, else 128]")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Of our loops; the published one takes 1.")] = 4,
    turns: Annotated[int, typer.Option(min=2, help="In each, every loop trains on BATCH samples.")] = 8,
    width: Annotated[int, typer.Option(min=1, help="Of the networks; the paper's 64.")] = 64,
    blocks: Annotated[int, typer.Option(min=1, help="Of the generators; the paper's 9.")] = 9,
    compiled: Annotated[bool, typer.Option("--compiled", help="Our loops compiled, too.")] = False,
    device: Annotated[str, typer.Option()] = "auto",
) -> None:
    """Measure training steps."""
    where = pick_device(device)
    size = size or (512 if where.type == "cuda" else 128)
    random = torch.Generator().manual_seed(0)
    x, y = (torch.rand(batch, 3, size, size, generator=random).to(where) * 2 - 1 for _ in range(2))

    def one_by_one() -> None:
        for number in range(batch):
            old(x[number : number + 1], y[number : number + 1])

    def together(method: Unpaired) -> None:
        losses = train_step(method, [(x, y)], 0)
        torch.stack(list(losses.values())).tolist()  # waits for a GPU, as the published loop does

    loops: dict[str, Callable[[], None]] = {"published: eager, float32, batch 1": one_by_one}
    for precision in ("32-true", "bf16-mixed") if has_bfloat16(where) else ("32-true",):
        for compile in (False, True) if compiled else (False,):
            recipe = esa_recipe(size, batch, width, blocks, precision=precision, compile=compile)
            method = Unpaired(start(recipe, device), recipe)
            if len(loops) == 1:
                networks = {
                    name: deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
                    for name, network in method.networks.items()
                }
                old = published(networks, recipe)
            name = f"`precision: {precision}`" + (", `compile: true`" if compile else "") + f", batch {batch}"
            loops[name] = partial(together, method)
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for turn in progressed("measuring", range(1 + turns)):
        for name, train in loops.items():
            begin = time.perf_counter()
            train()
            if turn:  # the first one warms up
                rates[name].append(batch / (time.perf_counter() - begin))
    print(f"| ESA-CycleGAN, {size} px, on {where.type} | samples / s | ratio |")
    print("| --- | --- | --- |")
    bases = rates["published: eager, float32, batch 1"]
    for name, some in rates.items():
        middle, low, high = speedup(some, bases)
        interval = "1" if some is bases else f"{middle:.2f} [{low:.2f}, {high:.2f}]"
        print(f"| {name} | {median(some):.2f} | {interval} |")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
