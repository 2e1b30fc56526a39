"""One training run: images and a recipe in, a run folder with a head out."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import rmtree

import torch
from lightning_fabric import Fabric
from torch.utils.data import Dataset

from undistill.base.errors import Failure
from undistill.base.lock import locked
from undistill.dataset import parse_split
from undistill.dataset.read import Cropping, TrainingCrops, ValidationCrops
from undistill.dataset.samples import DataError, ImageFolders, Sample, Sides, Source, list_sides, match
from undistill.heads import Head
from undistill.metrics.similarity import ssim
from undistill.training.contrastive import Contrastive
from undistill.training.folder import Inventory, card, check_folder, open_folder
from undistill.training.loop import fit, load_batches, load_networks_from, restore, start
from undistill.training.method import Batch, Method
from undistill.training.method import validation_figures as figures_of
from undistill.training.mmd import Mmd
from undistill.training.paired import Paired
from undistill.training.ranks import all_ranks_or_none, explain_lost_rank, rank_batch
from undistill.training.recipe import (
    ContrastiveRecipe,
    MmdRecipe,
    PairedRecipe,
    Recipe,
    RecipeError,
    build_head,
)
from undistill.training.unpaired import Unpaired


@dataclass(frozen=True)
class RunResult:
    """Where a run stands: its last step, why it stopped there, and its head's folder (None if interrupted)."""

    step: int
    ended: str
    head: Path | None


def train(
    recipe: Recipe,
    source: Source,
    run: Path,
    *,
    max_steps: int | None = None,
    device: str = "auto",
) -> RunResult:
    """Train a head on images of both sides, or go on with the run in `run`; under torchrun, with its other processes.

    Args:
        recipe: what to do; a run can only go on with the recipe and the images it began with.
        source: folders of images, which paired recipes match by file name, or a pairs data set.
        run: gets recipe.yaml, metrics.csv, TensorBoard events, samples/, last and best.safetensors, and head/.
        max_steps: stop after so many steps in all; the schedule stays the recipe's.
        device: "auto", "cpu", "cuda", "cuda:1".

    Raises:
        UsageError: the recipe, the images, the run folder or the number of processes don't fit each other.
        Failure: an image is broken, a loss is not finite, or another process ended.
    """
    fabric = start(recipe, device)
    with ExitStack() as held, explain_lost_rank(fabric), _enough_memory(recipe):
        with all_ranks_or_none(fabric):
            if fabric.is_global_zero:
                held.enter_context(locked(run))
            rank_batch(fabric, recipe.batch)
            sides, held_out = sides_of(recipe, source)
            images = _inventory(source, sides, held_out)
            check_folder(run, recipe, images)
            cut = cropping_of(recipe)
            training = TrainingCrops(*sides, cut, recipe.seed, recipe.paired)
            method = method_of(fabric, recipe, training, training.counts)
            if recipe.start is not None and not (run / "last.safetensors").exists():
                load_networks_from(method, Path(recipe.start))
        with all_ranks_or_none(fabric):
            if fabric.is_global_zero:
                open_folder(run, recipe, images)
        step, ended = fit(
            fabric,
            method,
            recipe,
            training,
            ValidationCrops(*held_out, cut),
            run,
            max_steps,
            workers=recipe.data.workers,
            patience=recipe.patience if isinstance(recipe, PairedRecipe) else None,
        )
        with all_ranks_or_none(fabric):
            if ended != "interrupted" and fabric.is_global_zero:
                _export(method, recipe, run, step, recipe.data.size or _short_side(sides[0]))
    return RunResult(step, ended, None if ended == "interrupted" else run / "head")


@torch.no_grad()
def validate_run(recipe: Recipe, source: Source, run: Path, *, device: str = "auto") -> dict[str, float]:
    """What the head of a run gives on all its validation images.

    Returns: the figures of the recipe's way of training, `val_loss` among them, and `val_ssim`: SSIM(x, G(x)).
    """
    sides, held_out = sides_of(recipe, source)
    cut = cropping_of(recipe)
    fabric = start(recipe, device)
    training = TrainingCrops(*sides, cut, recipe.seed, recipe.paired)
    method = method_of(fabric, recipe, training, training.counts)
    restore(method, _kept(recipe, run))
    method.prepare()
    batches = load_batches(fabric, ValidationCrops(*held_out, cut), recipe.batch, workers=recipe.data.workers)
    likeness = torch.zeros(())
    with _enough_memory(recipe):
        figures = figures_of(method, batches)
        for x, _ in batches:
            with fabric.autocast():
                z = head_of(method)(x)
            likeness += len(x) * ssim(x, z).cpu()
    return {**figures, "val_ssim": float(likeness) / len(held_out[0])}


@contextmanager
def _enough_memory(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise Failure(
            f"too little memory for batches of {recipe.batch} at {recipe.data.crop} px: take smaller ones, and "
            "accumulate them (--set batch=... --set accumulate=...), in a new folder"
        ) from error


def method_of(fabric: Fabric, recipe: Recipe, training: Dataset[Batch], counts: tuple[int, int]) -> Method:
    """The recipe's way of training, with a new head; `counts`: how many images each side of `training` has."""
    torch.manual_seed(recipe.seed)  # the same weights, whatever was drawn before
    if isinstance(recipe, PairedRecipe):
        return Paired(fabric, recipe)
    if isinstance(recipe, MmdRecipe):
        return Mmd(fabric, recipe, training, counts)
    if isinstance(recipe, ContrastiveRecipe):
        return Contrastive(fabric, recipe)
    return Unpaired(fabric, recipe)


def head_of(method: Method) -> Head:
    """The moving average of the generator."""
    head = method.averages["G"].module
    assert isinstance(head, Head)
    return head


def cropping_of(recipe: Recipe) -> Cropping:
    """Raises:
    RecipeError: the head can't take the recipe's crops.
    """
    data = recipe.data
    multiple = build_head(recipe.head).multiple
    if data.crop % multiple:
        raise RecipeError(
            f"data: crop {data.crop} is no multiple of {multiple}, which {recipe.head.architecture} needs"
        )
    return Cropping(data.crop, data.size, data.flip, data.gamma, data.colour)


def sides_of(recipe: Recipe, source: Source) -> tuple[Sides, Sides]:
    """Student and teacher images to train on, and those to validate on.

    Raises:
        DataError: images are missing, too small, or don't match.
    """
    data = recipe.data
    pairs: list[Sides] = []
    for split, fraction in ((data.train, data.fraction), (data.val, 1.0)):
        x, y = list_sides(source, parse_split(split), fraction, data.min_side)
        if recipe.paired:
            x, y = match(x, y)
            _refuse_unequal(x, y, resized=data.size is not None)
        pairs.append((x, y))
    if data.size is None:
        for sample in dict.fromkeys(sample for sides in pairs for side in sides for sample in side):
            if min(sample.size) < data.crop:
                raise DataError(
                    f"{sample} is smaller than the crop of {data.crop} px: in the recipe's data set size (resize) "
                    "or min_side (leave out), or lower crop"
                )
    return pairs[0], pairs[1]


def _refuse_unequal(student: Sequence[Sample], teacher: Sequence[Sample], *, resized: bool) -> None:
    """The two images of a pair are cut at one place: they need one size, or one shape if they are resized."""
    for x, y in zip(student, teacher, strict=True):
        (width, height), (other_width, other_height) = x.size, y.size
        fits = (
            width * other_height == height * other_width if resized else (width, height) == (other_width, other_height)
        )
        if not fits:
            raise DataError(
                f"{x} has {width} x {height} px and its pair {y} {other_width} x {other_height}: "
                "make them alike" + ("" if resized else ", or set size in the recipe's data")
            )


def _inventory(source: Source, sides: Sides, held_out: Sides) -> Inventory:
    """How many images each side trains on and validates on, and a hash of their names in order; of pairs, whose."""
    lists = {"student": sides[0], "teacher": sides[1], "val_student": held_out[0], "val_teacher": held_out[1]}
    images: dict[str, dict[str, int | str]] = {
        name: {
            "images": len(samples),
            "sha256": sha256("\n".join(sample.name for sample in samples).encode()).hexdigest(),
        }
        for name, samples in lists.items()
    }
    if not isinstance(source, ImageFolders):
        images["pairs"] = {**source.description.origin}
    return images


def _short_side(samples: Sequence[Sample]) -> int:
    """That of half of the images, at least, px."""
    return sorted(min(sample.size) for sample in samples)[len(samples) // 2]


def _export(method: Method, recipe: Recipe, run: Path, step: int, trained_at: int) -> None:
    """The run's head: the average of the weights at the best validation or at the end, as the recipe says."""
    best = restore(method, _kept(recipe, run))
    metrics = {"step": best["step"], "trained_steps": step, "val_loss": best["best"], "keep": recipe.keep}
    beside = run / ".head.part"
    rmtree(beside, ignore_errors=True)
    beside.mkdir()
    (beside / "README.md").write_text(card(recipe, json.loads((run / "data.json").read_text()), metrics))
    (beside / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    head = head_of(method)
    head.trained_at = trained_at
    head.save_pretrained(beside)
    rmtree(run / "head", ignore_errors=True)
    beside.rename(run / "head")


def _kept(recipe: Recipe, run: Path) -> Path:
    kept = run / f"{recipe.keep}.safetensors"
    # A run that ended before its first validation has no best.
    return kept if kept.exists() else run / "last.safetensors"
