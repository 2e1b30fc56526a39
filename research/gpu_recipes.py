"""What the recipes for GPUs take, computed without one:

    python -m research.gpu_recipes

Counts, in training steps of one and of two images of 512 px on the CPU, the bytes that are alive at the peak, the
floating point operations, and the bytes that operations read and write. Memory at a batch follows from the difference
of the two. Images a second are what `SUSTAINED` of a GPU's peaks allows, of operations or of bandwidth, whichever is
less; readers that can't follow, and kernels too small to fill a GPU, make it slower. Prints JSON for
`src/undistill/fit/evidence.json`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from undistill.base.command import run
from undistill.dataset.samples import ImageFolders
from undistill.pairs.networks import PeakMemory
from undistill.pairs.place import working_bytes
from undistill.pairs.plan import GPUS, SUSTAINED
from undistill.training import RECIPES
from undistill.training.method import train_step
from undistill.training.recipe import change_recipe, read_recipe
from undistill.training.speed import prepared

BANDWIDTH = {"H100 SXM, 80 GB": 3.35e12, "A100, 80 GB": 2.04e12, "RTX 4090, 24 GB": 1.01e12, "RTX 4080, 16 GB": 0.72e12}
"""Bytes/s by their vendors."""
FLOAT32 = {"H100 SXM, 80 GB": 67e12, "A100, 80 GB": 19.5e12, "RTX 4090, 24 GB": 82.6e12, "RTX 4080, 16 GB": 48.7e12}
"""FLOP/s in float32 by their vendors, without tensor cores: the recipes are 32-true."""
SHARE = 0.75
"""Of a GPU's memory, that a recipe may take."""
SIZE, IMAGES = 512, 4


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes that operations read and write; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        read = {t.untyped_storage().data_ptr(): t.nbytes for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        wrote = {t.untyped_storage().data_ptr(): t.nbytes for t in tree_leaves(out) if isinstance(t, Tensor)}
        if not function.is_view:
            self.total += sum(read.values()) + sum(wrote.values())
        return out


def measure(path: Path, folder: Path, batch: int) -> tuple[int, int, int]:
    """Bytes alive at the peak of a step, its operations, and the bytes that these move."""
    recipe = change_recipe(read_recipe(path), {"batch": batch})
    source = ImageFolders([folder / "student"], [folder / "teacher"])
    _, method, crops = prepared(recipe, source, "cpu")
    x, y = (torch.stack(images) for images in zip(*(crops[k] for k in range(batch)), strict=True))
    train_step(method, [(x, y)], 0)  # the optimizers' own
    peak, traffic = PeakMemory(method.networks["G"]), Traffic()
    with FlopCounterMode(display=False) as flop, peak, traffic:
        train_step(method, [(x, y)], 1)
    return peak.most, flop.get_total_flops(), traffic.total


def pictures(folder: Path) -> None:
    """Random ones."""
    for number, side in enumerate(("student", "teacher")):
        (folder / side).mkdir()
        for k in range(IMAGES):
            pixels = np.random.default_rng([number, k]).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            Image.fromarray(pixels).save(folder / side / f"{k}.png")


def computed(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Of each recipe."""
    with TemporaryDirectory() as name:
        pictures(Path(name))
        (one, *_), (two, flop, moved) = (measure(paths[0], Path(name), batch) for batch in (1, 2))
    for path in paths:
        batch, size = read_recipe(path).batch, int(path.stem.removesuffix("gb"))
        memory = one + (batch - 1) * (two - one) + working_bytes(SIZE)
        assert memory < SHARE * size * 1e9, (path, memory)
        images_s = {
            gpu.name: round(SUSTAINED / max(flop / 2 / FLOAT32[gpu.name], moved / 2 / BANDWIDTH[gpu.name]), 1)
            for gpu in GPUS
        }
        yield {
            "name": path.relative_to(RECIPES).with_suffix("").as_posix(),
            "gpu": round(0.94 * size * 1e9),
            "memory": memory,
            "batch": batch,
            "images_s": images_s,
        }


def main(recipes: Annotated[Path, typer.Argument()] = RECIPES / "flux1-512") -> None:
    """Print what the recipes of a folder take."""
    for recipe in computed(sorted(recipes.glob("*.yaml"))):
        typer.echo(json.dumps(recipe))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(main)
    run(app)
