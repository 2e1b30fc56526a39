"""How long a step of a recipe takes here, found before a run is begun."""

from itertools import islice
from statistics import median
from time import perf_counter

import torch
from lightning_fabric import Fabric

from undistill.dataset.read import Consecutive, TrainingCrops
from undistill.dataset.samples import Source
from undistill.training.loop import load_batches, start
from undistill.training.method import Method, train_step
from undistill.training.recipe import Recipe, change_recipe
from undistill.training.run import cropping_of, method_of
from undistill.training.sides import sides_of

TIMED = 5
"""Steps, of which the first is left out."""


def step_seconds(recipe: Recipe, source: Source, *, fraction: float = 1.0, device: str = "auto") -> float:
    """The median of a few steps, with their images read by this process. Nothing is written.

    Args:
        source: images like those of the run to come; a few are enough.
        fraction: of them that is taken.

    Raises:
        UsageError, Failure: as of `undistill.training.run.train`.
    """
    fabric, method, training = prepared(change_recipe(recipe, {"data.fraction": fraction}), source, device)
    order = Consecutive(0, TIMED * recipe.accumulate * recipe.batch, recipe.batch)
    batches = iter(load_batches(fabric, training, recipe.batch, order))
    seconds = []
    for step in range(TIMED):
        began = perf_counter()
        losses = train_step(method, list(islice(batches, recipe.accumulate)), step)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize(fabric.device)
        seconds.append(perf_counter() - began)
        assert losses
    return median(seconds[1:])


def prepared(recipe: Recipe, source: Source, device: str) -> tuple[Fabric, Method, TrainingCrops]:
    """The recipe's way of training with a new head, ready for steps, and crops of all images of the source.

    Raises:
        UsageError, Failure: as of `undistill.training.run.train`.
    """
    recipe = change_recipe(recipe, {"data.train": "all", "data.val": "all"})
    fabric = start(recipe, device)
    sides, _ = sides_of(recipe, source)
    training = TrainingCrops(*sides, cropping_of(recipe), recipe.seed, recipe.paired)
    method = method_of(fabric, recipe, training, training.counts)
    method.prepare()
    return fabric, method, training
