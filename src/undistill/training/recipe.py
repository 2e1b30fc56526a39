"""Recipes: YAML files that fix one training run."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import torch
import yaml
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError, field_validator, model_validator

from undistill.base.errors import UsageError, first_line
from undistill.base.machine import memory
from undistill.base.settings import Positive, Strict, explain, first_few, read_yaml, unknown_key
from undistill.dataset import parse_split
from undistill.heads import Head
from undistill.losses import Backbone
from undistill.metrics.whitening import DIMENSIONS

T = TypeVar("T")


class RecipeError(UsageError):
    """A recipe that can't be followed."""


_MOST = {"blocks": 1000, "depth": 12}
"""Of a head's arguments: layers are built one by one. For the others memory is the limit."""
Long = Annotated[int, Field(gt=0, le=10**9)]
"""A number of steps."""
Px = Annotated[int, Field(gt=0, le=2**14)]
Batch = Annotated[int, Field(gt=0, le=2**16)]


class HeadRecipe(Strict, extra="allow"):
    """A class of `undistill.heads` and its arguments."""

    architecture: Literal["ResnetGenerator", "EsaGenerator", "UNet", "GridHead"]

    @model_validator(mode="after")
    def _arguments_are_known(self) -> Self:
        # Of __init__: Python 3.11.2 takes that of a __new__ further up, where a class has no __init__ of its own.
        arguments = signature(Head.architectures[self.architecture].__init__).parameters
        known = {name: given.annotation for name, given in arguments.items() if name != "self"}
        for key, value in (self.model_extra or {}).items():
            if key not in known:
                raise ValueError(unknown_key(key, list(known)))
            kind: Any = Annotated[int, Field(gt=0, le=_MOST.get(key, 2**20))] if known[key] is int else known[key]
            try:
                TypeAdapter(kind).validate_python(value, strict=True)
            except ValidationError as error:
                raise ValueError(f"{key}: {error.errors()[0]['msg']}") from error
        return self


class DataRecipe(Strict):
    """Which images are trained on, and how they are cut and varied."""

    crop: Annotated[int, Field(ge=32, le=2**14)]
    """Side of the training crops, px."""
    size: Px | None = None
    """Resize the shorter side to this before cropping, px; null: native scale."""
    min_side: Annotated[int, Field(ge=0)] = 0
    """Leave out images whose shorter side is less, px."""
    train: str = "train"
    val: str = "val"
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Use this part of the training split."""
    flip: bool = True
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.0
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.0
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Loader processes."""

    @field_validator("train", "val")
    @classmethod
    def _is_a_split(cls, text: str) -> str:
        parse_split(text)
        return text

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.size is not None and self.size < self.crop:
            raise ValueError(f"size {self.size} is smaller than crop {self.crop}")
        return self


class Schedule(Strict):
    """What the loop follows, whatever is trained."""

    seed: Annotated[int, Field(ge=0)] = 0
    batch: Batch = 1
    """Images a side, of all processes together."""
    accumulate: Batch = 1
    """Batches an optimizer step adds up."""
    epochs: Long | None = None
    steps: Long | None = None
    """The length of the run: one of the two."""
    lr: Annotated[float, Field(gt=0)]
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the exponential moving average of the weights; 0: none."""
    log_every: Positive = 50
    save_every: Positive = 500
    sample_every: Positive = 500
    validate_every: Positive | None = None
    """In steps; null: every epoch."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps, the other null")
        return self


class TrainingRecipe(Schedule):
    """What all ways of training a head share."""

    head: HeadRecipe
    data: DataRecipe
    keep: Literal["best", "last"] = "best"
    """Which weights become the run's head."""
    start: str | None = None
    """Folder of a run with networks alike: this one starts from its best weights."""

    @property
    def paired(self) -> bool:
        """It takes the two images of a pair together."""
        return False


class PairedRecipe(TrainingRecipe):
    """GRAD(x, z) + LPIPS(y, z), early stopping on the validation loss."""

    mode: Literal["paired"]
    structure: Literal["gradient", "l1", "none"] = "gradient"
    """What holds the output to the input beside LPIPS(y, z): GRAD(x, z), L1(x, z) or nothing."""
    patience: Positive = 10
    """Stop after so many epochs without improvement."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the run in which the learning rate rises: without norms, Adam's first steps would throw a head off."""

    @property
    def paired(self) -> bool:
        """Always."""
        return True


class MmdRecipe(TrainingRecipe):
    """mmd x MMD^2(z, y) + lpips x LPIPS: pairs and distributions at once, or distributions alone; linear decay in the
    second half."""

    mode: Annotated[Literal["mmd", "matched"], AfterValidator(lambda _: "mmd")]
    """`matched` is its name in older recipes, runs and cards."""
    anchor: Literal["teacher", "student"] = "teacher"
    """What LPIPS holds the output to: the teacher image of its pair, or the student image, which needs no pairs."""
    mmd: Annotated[float, Field(ge=0)] = 20.0
    lpips: Annotated[float, Field(ge=0)] = 1.0
    tone: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss that holds light and colour, averaged over 16 x 16 px, to the input's."""
    chroma: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss that keeps coloured detail, other than the input's, out of the output."""
    neutral: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss that keeps greys grey."""
    even: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss that turns the hue of everybody's skin alike."""
    features: Annotated[tuple[Backbone | Literal["steerable"], ...], Field(min_length=1)] = ("alex",)
    """Who looks: AlexNet, VGG-16, whose weights are not shipped (UNDISTILL_WEIGHTS names their folder), or a bank of
    filters in which nothing is learned."""
    view: Positive | None = None
    """Side of the part of an image that is looked at, px: its middle and its corners, each by itself. null: all of it,
    together."""
    sides: Annotated[tuple[Annotated[int, Field(ge=64)], ...], Field(min_length=1)] = (96, 192)
    """What is looked at is resized to these, px. Networks, parts and sides take turns from step to step."""
    dimensions: Positive = DIMENSIONS
    """Of the features that are compared, at most."""
    shrink: bool = False
    """Take away from the difference of both sides what is likely chance: for few images."""
    memory: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """How much of what the last steps saw of the outputs' distribution is kept."""

    @property
    def paired(self) -> bool:
        """Where it looks at the pair's teacher image."""
        return self.anchor == "teacher"

    @model_validator(mode="after")
    def _view_fits(self) -> Self:
        if self.view is not None and self.view > self.data.crop:
            raise ValueError(f"view {self.view} is larger than data.crop {self.data.crop}")
        return self


class AdversarialRecipe(TrainingRecipe):
    """What ways of training without pairs share; linear decay in the second half."""

    tone: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss that holds light and colour, averaged over 16 x 16 px, to the input's."""
    chroma: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss that keeps coloured detail, other than the input's, out of the output."""
    slack: Annotated[float, Field(ge=0)] = 0.0
    """Cycle, identity and tone losses count differences below this quadratically; 0: L1, as published."""
    augment: bool = False
    """Show discriminators shifted images with a square cut out: for few images."""
    discriminator_width: Annotated[int, Field(gt=0, le=1024)] = 64
    pool: Annotated[int, Field(ge=0)] = 50
    init: Literal["default", "normal"] = "default"
    """What generators and discriminators start with: ours, or CycleGAN's N(0, 0.02), as published."""


class UnpairedRecipe(AdversarialRecipe):
    """CycleGAN: L_GAN + L_GAN + cycle x L_cycle (+ identity x L_identity)."""

    mode: Literal["unpaired"]
    cycle: Annotated[float, Field(ge=0)] = 10.0
    """The paper's lambda."""
    identity: Annotated[float, Field(ge=0)] = 0.0
    compile: bool = False
    """Compile the networks: minutes at the start. On a CPU nothing is gained."""


class ContrastiveRecipe(AdversarialRecipe):
    """CUT (Park et al. 2020): L_GAN + contrast x L_PatchNCE(x, z) + identity x L_PatchNCE(y, G(y)); no way back."""

    mode: Literal["contrastive"]
    contrast: Annotated[float, Field(ge=0)] = 1.0
    identity: Annotated[float, Field(ge=0)] = 1.0


Recipe = PairedRecipe | MmdRecipe | UnpairedRecipe | ContrastiveRecipe
MODES: dict[str, type[TrainingRecipe]] = {
    "paired": PairedRecipe,
    "mmd": MmdRecipe,
    "unpaired": UnpairedRecipe,
    "contrastive": ContrastiveRecipe,
}
_adapter: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="mode")])


def read_recipe(path: Path) -> Recipe:
    """Raises:
    RecipeError: the file can't be read, is no YAML, or has a key or a value that doesn't belong.
    """
    return read_with(path, make_recipe)


def read_with(path: Path, make: Callable[[Any], T]) -> T:
    """What `make` makes of a YAML file.

    Raises:
        RecipeError: it can't be read, is no YAML, or `make` refused it.
    """
    try:
        data = read_yaml(path)
    except UsageError as error:
        raise RecipeError(f"recipe {error}") from error
    try:
        return make(data)
    except RecipeError as error:
        raise RecipeError(f"recipe {path}: {error}") from error


def build_head(recipe: HeadRecipe) -> Head:
    """A new head with the weights its class starts with."""
    return Head.architectures[recipe.architecture](**(recipe.model_extra or {}))


def plan_head(recipe: HeadRecipe) -> Head:
    """The head without values, for what it takes.

    Raises:
        RecipeError: it refuses its arguments, or its weights alone don't fit into this machine's memory.
    """
    try:
        with torch.device("meta"):
            head = build_head(recipe)
    except ValueError as error:
        raise RecipeError(f"head: {error}") from error
    except RuntimeError as error:  # its sizes don't even fit into 64 bits
        raise RecipeError(f"head: {first_line(error)}: make it smaller") from error
    weights = sum(weight.nbytes for weight in head.state_dict().values())
    if weights > memory():
        raise RecipeError(
            f"head: its weights alone take {weights / 1e9:,.0f} GB, and this machine has {memory() / 1e9:.0f} GB of "
            "memory: make it smaller"
        )
    return head


def make_recipe(data: Any) -> Recipe:
    """A recipe from what its YAML holds.

    Raises:
        RecipeError: a key or a value that does not belong.
    """
    return validated(data, "mode", MODES, _adapter)


def validated(data: Any, tag: str, kinds: Mapping[str, type[BaseModel]], adapter: TypeAdapter[T]) -> T:
    """Data as one of several models, told apart by the key `tag`.

    Raises:
        RecipeError: a key or a value doesn't belong, in one line, with the nearest key that does.
    """
    if isinstance(data, dict) and tag not in data:
        nearest = get_close_matches(tag, [str(key) for key in data], n=1)
        *others, last = kinds
        raise RecipeError(
            f"{tag} is missing: {', '.join(others)} or {last}" + (f"; is {nearest[0]} meant?" if nearest else "")
        )
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        raise RecipeError(first_few(error, lambda each: _explain(each, kinds))) from error


def change_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other values.

    Args:
        changes: by key; that of a part is written with a dot, e.g. "data.crop".

    Raises:
        RecipeError: a key or a value doesn't belong.
    """
    data = recipe.model_dump(exclude_unset=True)
    for path, value in changes.items():
        *parents, key = path.split(".")
        part: Any = data
        for parent in parents:
            part = part.get(parent)
            if not isinstance(part, dict):
                raise RecipeError(f"{path}: {parent} has no parts")
        part[key] = value
    return make_recipe(data)


def dump_recipe(recipe: Schedule) -> str:
    """The recipe as YAML, with all its values."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _explain(problem: Any, kinds: Mapping[str, type[BaseModel]]) -> str:
    # The keys begin with the tag, which told pydantic what to make of the rest.
    tag, *where = map(str, problem["loc"] or [""])
    return explain(problem, where, kinds.get(tag, Schedule), "recipe")
