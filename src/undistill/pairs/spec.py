"""Pair specs: YAML files that say which student and which teacher, and how they are asked."""

import json
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from undistill.base.errors import UsageError
from undistill.base.settings import Positive, Strict, explain_all, read_yaml

SPECS = Path(str(files("undistill"))) / "pairs" / "specs"


class SideSpec(Strict):
    """A generator and its settings. What `model`, `rest` and `lora` may be: see `undistill.pairs.load`."""

    model: str
    """A diffusers folder, one of the package's, or a Hugging Face hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; null: its newest."""
    rest: str | None = None
    """Where all but the denoiser and the scheduler come from; null: from `model`."""
    gguf: str | None = None
    """The denoiser's weights from a GGUF file instead: its path, or "owner/name/file.gguf" on the hub."""
    lora: str | None = None
    """A LoRA: a safetensors file, or a folder or hub id that holds one."""
    scheduler: dict[str, bool | float | str | None] | None = None
    """Settings of the scheduler that are others than its own, as diffusers calls them."""
    steps: Positive
    guidance: Annotated[float, Field(ge=0)]
    """diffusers' guidance_scale; where a pipeline has but true_cfg_scale (Qwen-Image), that, against the prompt " "."""
    max_sequence_length: Positive | None = None
    """Tokens the text encoder sees; null: the pipeline's own (SDXL has no choice)."""


class TeacherSpec(SideSpec):
    """Begins with the student's image, after Meng et al. 2021 (SDEdit)."""

    start: Literal["student", "text"] = "student"
    """text: it begins with noise alone. Such a pair is unpaired by design: both sides show what the prompt says, and
    not the same person."""
    strength: Annotated[float, Field(gt=0, le=1)]
    """Noise it begins with; the last `steps x strength` of the steps are run (the paper's 50 at 0.7: 35)."""

    @model_validator(mode="after")
    def _runs_a_step(self) -> Self:
        if self.steps * self.strength < 1:
            raise ValueError(f"{self.steps} steps at strength {self.strength:g} leave none to run")
        if self.start == "text" and self.strength != 1:
            raise ValueError("start: text is noise alone, which is strength: 1")
        return self


class PairSpec(Strict):
    """A student and a teacher with their settings."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    size: Annotated[int, Field(gt=0, le=8192, multiple_of=16)]
    """Height and width of the images, px."""
    dtype: Literal["float32", "bfloat16", "float16"]
    quantised: Literal["int8", "nf4"] | None = None
    """Weights of the denoisers and of T5 in 8 bits (torchao) or in 4 (bitsandbytes); GGUF files keep their own bits."""
    tiling: bool = False
    """Autoencoder in overlapping tiles where images are larger than its own size (FLUX: 1024 px); saves memory."""
    head: str | None = None
    """The head that goes with the pair, as `Head.from_pretrained` takes it."""
    student: SideSpec
    teacher: TeacherSpec

    def hash(self) -> str:
        """SHA-256 over what the images depend on: neither the name nor the head, and no key left at its default.

        So a spec keeps its hash when it gets a head, and when specs get new keys.
        """
        settings = self.model_dump(mode="json", exclude={"name", "head"}, exclude_defaults=True)
        return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def read_spec(name: str | Path) -> PairSpec:
    """Read a pair spec: a YAML file, or a shipped name (`shipped_pairs()`).

    Raises:
        UsageError: nothing of that name, or a file that is no pair spec.
    """
    path = Path(name)
    if not path.is_file() and path.suffix not in (".yaml", ".yml"):
        if str(name) not in shipped_pairs():
            raise UsageError(f"no pair {str(name)!r}: neither a YAML file, nor shipped ({', '.join(shipped_pairs())})")
        path = SPECS / f"{name}.yaml"
    try:
        data = read_yaml(path)
    except UsageError as error:
        raise UsageError(f"pair spec {error}") from error
    try:
        return make_spec(data)
    except UsageError as error:
        raise UsageError(f"pair spec {path}: {error}") from error


def make_spec(data: Any) -> PairSpec:
    """Raises:
    UsageError: a key or a value that doesn't belong.
    """
    try:
        return PairSpec.model_validate(data)
    except ValidationError as error:
        raise UsageError(explain_all(error, PairSpec, "pair spec")) from error


def shipped_pairs() -> list[str]:
    """Names of the pair specs that come with the package."""
    return sorted(path.stem for path in SPECS.glob("*.yaml"))
