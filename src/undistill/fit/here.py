"""What this machine has for a head, and how fast it is: asked and measured before anything large is begun."""

import shutil
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from time import perf_counter

import torch

from undistill.base.device import has_native_bfloat16, pick_device
from undistill.base.errors import UsageError
from undistill.base.machine import cores, memory
from undistill.base.threads import spread
from undistill.dataset.samples import Sample, Source, list_sides, pixels_of
from undistill.dataset.shard import Pairs
from undistill.fit.budget import Speeds
from undistill.fit.evidence import AND_BY, MEASURED_BY, Choice, GpuRecipe, gpu_recipe
from undistill.fit.plan import Training
from undistill.fit.source import Images
from undistill.metrics.extraction import BATCH, EvalImage
from undistill.metrics.features import load_extractor
from undistill.pairs.load import find_weights, hub_file, model_ref, rest_ref
from undistill.pairs.plan import PairsPlan, fits, measure_drawn, placed
from undistill.pairs.spec import PairSpec
from undistill.training import find_recipe
from undistill.training.recipe import Recipe, change_recipe, read_recipe
from undistill.training.speed import step_seconds

LOOKED_AT = 32
"""Images that are looked at to time it."""
TIMED_ON = 64
"""Images, about, that steps are timed on."""
SMALL_BATCH_PX = 32 * 64 * 64
"""Pixels that are drawn at a time, at least four images: 32 of tiny."""


def gpu_memory() -> int | None:
    """Bytes of the GPU that is taken; None: there is none."""
    device = pick_device()
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def batch_of(spec: PairSpec) -> int:
    """Images that are drawn at a time."""
    return max(4, SMALL_BATCH_PX // spec.size**2)


def first_pairs(batch: int) -> int:
    """How many are drawn to be timed: eight, or two batches, of which the first one counts for nothing."""
    return max(8, 2 * batch)


def training_of(choice: Choice, size: int) -> tuple[Training, Recipe, GpuRecipe | None]:
    """By which recipe, here: with a GPU, portraits at 512 px by the one for its memory.

    Raises:
        UsageError: the GPU is too small.
    """
    gpu, large = gpu_memory(), None
    name, changes = choice.name, dict(choice.changes)
    if gpu is not None and choice.name == "flux1" and size >= 512:
        large = gpu_recipe(gpu)
        name = large.name
    recipe = read_recipe(find_recipe(Path(name)))
    if gpu is None and recipe.precision == "bf16-mixed" and not has_native_bfloat16():
        changes["precision"] = "32-true"  # without the instructions bfloat16 takes many times as long
    if recipe.steps is None:
        changes["epochs"] = None
    return Training(name, changes, recipe.data.min_side), recipe, large


def refuse_pair(made: PairsPlan) -> None:
    """Refuse a pair that can't be drawn here: before hours have gone into it.

    Raises:
        UsageError: the GPU or the memory is too small.
        Failure: a licence isn't accepted, or weights can't be had.
    """
    held = [network.held for network in made.networks]
    gpu = gpu_memory()
    if gpu is not None:
        _, peak = placed(made.spec, made.networks, made.work, gpu)
        if not fits(peak, gpu):
            raise UsageError(
                f"the GPU's {gpu / 1e9:.0f} GB are too few: {made.spec.name} takes {peak / 1e9:.0f} GB, block by "
                "block; a pair of fewer bits takes less, e.g. --pair flux1-nf4"
            )
    if sum(held) > memory():
        raise UsageError(
            f"this machine's {memory() / 1e9:.0f} GB of memory are too few: the networks of {made.spec.name} take "
            f"{sum(held) / 1e9:.0f} GB"
        )
    spec = made.spec
    for place in dict.fromkeys(
        [model_ref(spec.student), model_ref(spec.teacher), rest_ref(spec.student, spec.teacher),
         rest_ref(spec.teacher, spec.student)]
    ):  # fmt: skip
        if not Path(place.name).is_dir():
            hub_file(find_weights(place.name, place.revision), "model_index.json")


def free_disk(place: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    there = next(folder for folder in (place.resolve(), *place.resolve().parents) if folder.exists())
    return shutil.disk_usage(there).free


def refuse_full(out: Path, wanted: float, pairs: int) -> None:
    """Raises:
    UsageError: there is no disk for the pairs.
    """
    if wanted > free_disk(out):
        raise UsageError(
            f"{out} has {free_disk(out) / 1e9:.1f} GB free, and {pairs:,} pairs take {wanted / 1e9:.1f} GB: free some, "
            "or take a smaller --count"
        )


def steps_of(recipe: Recipe, images: int) -> int:
    """How many steps a recipe takes on so many images a side."""
    if recipe.steps is not None:
        return recipe.steps
    return (recipe.epochs or 1) * ceil(images / (recipe.batch * recipe.accumulate))


def measure_speeds(source: Source, training: Training, images: Images, count: int) -> Speeds:
    """What a pair, a step and a look take here.

    Args:
        source: images to time them on: that are there, or the first that were drawn.
        images: what is known of them.
        count: that the source has.
    """
    pair, how = 0.0, "measured here"
    if images.spec is not None:
        assert isinstance(source, Pairs)
        pair, how = measure_drawn(source.folder, images.spec).pair_s, f"measured on the first {count} pairs"
    recipe = change_recipe(read_recipe(find_recipe(Path(training.recipe))), {**training.changes, "steps": 1})
    step = step_seconds(recipe, source, fraction=min(1.0, TIMED_ON / count))
    look = look_seconds(list_sides(source, (0, 1), min_side=training.min_side)[0][:LOOKED_AT])
    if gpu_memory() is not None:
        torch.cuda.empty_cache()  # pairs are drawn by a process of its own, which takes what is free
    return Speeds(pair, step, look, how, workers=1 if gpu_memory() is not None else cores())


def look_seconds(samples: Sequence[Sample]) -> float:
    """Seconds of an image's features, of all extractors together, by all that this machine has."""
    extractors = [load_extractor(name, pick_device()) for name in (MEASURED_BY, *AND_BY)]

    def look(start: int) -> int:
        some = [EvalImage(pixels_of(sample)) for sample in samples[start : start + BATCH]]
        return min(len(extractor.look(some)) for extractor in extractors)

    began = perf_counter()
    count = sum(spread(look, range(0, len(samples), BATCH)))
    return (perf_counter() - began) / count
