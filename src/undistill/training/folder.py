"""What a run's folder holds beside its weights: the recipe, which images it learns from, the model card of its head."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, NonNegativeInt, TypeAdapter, ValidationError

from undistill.base.errors import UsageError
from undistill.base.files import PART, replacing
from undistill.base.settings import read_yaml
from undistill.dataset import SPLITS, fold_split, parse_split
from undistill.training.recipe import PairedRecipe, Recipe, RecipeError, Schedule, change_recipe, dump_recipe
from undistill.training.whole import NAMED

Inventory = Mapping[str, Mapping[str, int | str]]
SIDES = ("student", "teacher")


def check_folder(run: Path, recipe: Schedule) -> None:
    """Raises:
    UsageError: the folder holds something else, or a run with another recipe.
    """
    if not (run / "recipe.yaml").exists():
        if run.exists() and any(not path.name.endswith(PART) for path in run.iterdir()):
            raise UsageError(f"{run} holds something else than a run: choose a new folder for -o")
        return
    try:
        before = type(recipe).model_validate(read_yaml(run / "recipe.yaml")).model_dump()
    except ValidationError as error:
        raise UsageError(f"{run} was begun with another kind of recipe: choose a new folder for -o") from error
    changed = [key for key, value in recipe.model_dump().items() if value != before.get(key)]
    if changed:
        raise UsageError(
            f"{run} was begun with another recipe ({', '.join(changed)} differ): choose a new folder for -o"
        )


def check_inventory(run: Path, images: Inventory, broken: Sequence[str] = ()) -> None:
    """Refuse to go on with other images.

    Args:
        broken: those that can't be used now, which `images` doesn't count. The run may have begun when they could.

    Raises:
        UsageError: it has begun with others.
    """
    inventory = run / "data.json"
    if not inventory.exists() or read_yaml(inventory) == images:
        return
    back = ""
    if broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        back = f"{', '.join(broken[:NAMED])}{more} can't be used now: put back what was there then, or "
    raise UsageError(f"{run} was begun with other images or networks: {back}choose a new folder for -o")


def open_folder(run: Path, recipe: Schedule, images: Inventory) -> None:
    """Make the folder, if need be, and write down what the run begins with."""
    run.mkdir(parents=True, exist_ok=True)
    with replacing(run / "recipe.yaml") as beside:
        beside.write_text(dump_recipe(recipe), encoding="utf-8")
    if not (run / "data.json").exists():
        with replacing(run / "data.json") as beside:
            beside.write_text(json.dumps(images, indent=2) + "\n")


class HeadMetrics(BaseModel):
    """`metrics.json` of a run's head."""

    step: NonNegativeInt
    trained_steps: NonNegativeInt
    val_loss: float | None = None
    keep: str = "last"


_INVENTORY: TypeAdapter[dict[str, dict[str, int | str]]] = TypeAdapter(dict[str, dict[str, int | str]])


def read_inventory(file: Path) -> Inventory:
    """What `open_folder` wrote of the images.

    Raises:
        UsageError: the file is broken.
    """
    try:
        images = _INVENTORY.validate_json(file.read_bytes())
        _ = [images[side]["images"] for side in SIDES]
    except (ValidationError, KeyError) as error:
        raise UsageError(f"{file} is not as the run wrote it: put it back") from error
    return images


def read_metrics(file: Path) -> HeadMetrics:
    """What the run says of its head.

    Raises:
        UsageError: the file is broken.
    """
    try:
        return HeadMetrics.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise UsageError(
            f"{file} is not as the run wrote it: delete {file.parent}, and the same `undistill train` makes it again"
        ) from error


def fold_recipe(recipe: Recipe, fold: int, folds: int) -> Recipe:
    """The recipe of a head that has seen no image of the fold, on either side.

    Raises:
        RecipeError: it would know the images that it is measured on, or the head on all images would not be one.
    """
    if recipe.keep == "best" or isinstance(recipe, PairedRecipe):
        raise RecipeError(
            "with --folds a head is measured on what it is validated on, so these images must not choose it: "
            "keep=best and mode=paired, which stops by them, can't be had (--set keep=last)"
        )
    if recipe.start is not None:
        raise RecipeError(
            f"with --folds every head begins anew: {recipe.start} has seen images of the folds (start=null)"
        )
    if parse_split(recipe.data.train) != SPLITS["all"] or recipe.data.fraction < 1:
        raise RecipeError("with --folds the recipe trains on all images, and each fold's head on its part: --split all")
    low, high = fold_split(fold, folds)
    return change_recipe(recipe, {"data.train": f"{high % 1:.9g}:{low or 1:.9g}", "data.val": f"{low:.9g}:{high:.9g}"})


UNMEASURED = """ Not measured beyond the losses of the run: look at its pictures, and evaluate it, before you
rely on it.
"""
"""What a card says that nothing was measured for."""

_CARD = f"""---
library_name: undistill
license: apache-2.0
pipeline_tag: image-to-image
tags: [undistill, portraits]
---

# A head for undistill

Makes the images of a distilled text-to-image model look like its teacher's (after arXiv 2505.02255).

    undistill enhance IMAGES -o OUT --head THIS_FOLDER

Trained {{mode}} on {{student}} student and {{teacher}} teacher images for {{trained_steps}} steps; the weights are the
moving average at step {{step}}.{UNMEASURED}
## Recipe

```yaml
{{recipe}}```
"""


def card(recipe: Recipe, images: Inventory, metrics: HeadMetrics) -> str:
    """Markdown for README.md: what it is, what it was trained on, how."""
    return _CARD.format(
        mode=recipe.mode,
        student=images["student"]["images"],
        teacher=images["teacher"]["images"],
        recipe=dump_recipe(recipe),
        trained_steps=metrics.trained_steps,
        step=metrics.step,
    )
