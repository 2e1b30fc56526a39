"""One training run: images and a recipe in, a run folder with a head out."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import rmtree

import torch
from lightning_fabric import Fabric
from torch.utils.data import Dataset

from undistill.base.device import is_out_of_memory
from undistill.base.errors import Failure
from undistill.base.files import replacing
from undistill.base.lock import locked
from undistill.base.output import say
from undistill.dataset.read import Cropping, TrainingCrops, ValidationCrops
from undistill.dataset.samples import ImageFolders, Sample, Sides, Source
from undistill.heads import Head
from undistill.metrics.results import write_json
from undistill.metrics.similarity import ssim
from undistill.training.contrastive import Contrastive
from undistill.training.folder import (
    HeadMetrics,
    Inventory,
    card,
    check_folder,
    check_inventory,
    open_folder,
    read_inventory,
)
from undistill.training.loop import INTERRUPTED, fit, load_batches, start
from undistill.training.method import Batch, Method
from undistill.training.method import validation_figures as figures_of
from undistill.training.mmd import Mmd
from undistill.training.paired import Paired
from undistill.training.place import load_networks_from, restore
from undistill.training.ranks import all_ranks_or_none, explain_lost_rank, local_ranks, rank_batch
from undistill.training.recipe import (
    ContrastiveRecipe,
    MmdRecipe,
    PairedRecipe,
    Recipe,
    RecipeError,
    plan_head,
)
from undistill.training.sides import TrainedOn, all_samples, listed_sides, sides_of, usable
from undistill.training.unpaired import Unpaired
from undistill.training.whole import broken_words, find_broken


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
    skip_broken: bool = False,
) -> RunResult:
    """Train a head on images of both sides, or go on with the run in `run`; under torchrun, with its other processes.

    Args:
        recipe: what to do; a run can only go on with the recipe and the images it began with.
        source: folders of images, which paired recipes match by file name, or a pairs data set.
        run: gets recipe.yaml, metrics.csv, TensorBoard events, samples/, last and best.safetensors, and head/.
        max_steps: stop after so many steps in all; the schedule stays the recipe's.
        device: "auto", "cpu", "cuda", "cuda:1".
        skip_broken: go on without images that can't be used (and their twins, where the recipe takes pairs), and say so
            on standard error. For the run they are not there: whether they are deleted later makes no difference.

    Raises:
        UsageError: the recipe, the images, the run folder or the number of processes don't fit each other.
        Failure: images are broken, which is found before the first step; a loss is not finite, or another process
            ended.
    """
    fabric = start(recipe, device)
    with ExitStack() as held, explain_lost_rank(fabric), _enough_memory(recipe):
        with all_ranks_or_none(fabric):
            if fabric.is_global_zero:
                held.enter_context(locked(run))
            rank_batch(fabric, recipe.batch)
            check_folder(run, recipe)
            cut = cropping_of(recipe)
            listed = listed_sides(recipe, source)
        broken = _broken(fabric, listed, skip_broken)
        with all_ranks_or_none(fabric):
            sides, held_out = usable(recipe, listed, broken)
            images = _inventory(source, sides, held_out)
            check_inventory(run, images, broken)
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
            if ended not in INTERRUPTED and fabric.is_global_zero:
                _export(method, recipe, run, step, recipe.data.size or _short_side(sides[0]))
    return RunResult(step, ended, None if ended in INTERRUPTED else run / "head")


def _broken(fabric: Fabric, listed: TrainedOn, skip: bool) -> list[str]:
    """The texts of broken images; the first rank looks for them."""
    broken: dict[str, str] = {}
    with all_ranks_or_none(fabric):
        if fabric.is_global_zero:
            samples = all_samples(listed)
            broken = find_broken(samples, torch.get_num_threads() * local_ranks())  # those of the others, who wait
            if broken and not skip:
                raise Failure(f"{broken_words(broken, len(samples))}; --skip-broken leaves them out")
            if broken:
                say(f"{broken_words(broken, len(samples))}; left out", err=True)
    return fabric.broadcast(list(broken))


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
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise Failure(
            f"too little memory for batches of {recipe.batch} at {recipe.data.crop} px: take smaller ones, and "
            "accumulate them (--set batch=... --set accumulate=...), or a smaller head, in a new folder"
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
    RecipeError: the head can't take the recipe's crops, or this machine can't hold it.
    """
    data = recipe.data
    multiple = plan_head(recipe.head).multiple
    if data.crop % multiple:
        raise RecipeError(
            f"data: crop {data.crop} is no multiple of {multiple}, which {recipe.head.architecture} needs"
        )
    return Cropping(data.crop, data.size, data.flip, data.gamma, data.colour)


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
    metrics = HeadMetrics(step=best["step"], trained_steps=step, val_loss=best["best"], keep=recipe.keep)
    beside = run / ".head.part"
    rmtree(beside, ignore_errors=True)
    beside.mkdir()
    write_json(metrics.model_dump(), beside / "metrics.json")
    with replacing(beside / "README.md") as part:
        part.write_text(card(recipe, read_inventory(run / "data.json"), metrics), encoding="utf-8")
    head = head_of(method)
    head.trained_at = trained_at
    head.save_pretrained(beside)
    rmtree(run / "head", ignore_errors=True)
    beside.rename(run / "head")


def _kept(recipe: Recipe, run: Path) -> Path:
    kept = run / f"{recipe.keep}.safetensors"
    # A run that ended before its first validation has no best.
    return kept if kept.exists() else run / "last.safetensors"
