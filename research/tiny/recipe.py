"""Recipes of tiny's stages: YAML files that fix one training run each."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

from undistill.base.settings import Positive, Strict
from undistill.training.recipe import Schedule, read_with, validated

Width = Annotated[int, Field(ge=16, multiple_of=16)]


class FacesRecipe(Strict):
    """What is shown of a face. Without keys: as the shipped pair of 64 px was trained."""

    side: Annotated[int, Field(ge=16, multiple_of=16)] = 64
    """Of all images, px."""
    nearest: Annotated[float, Field(gt=0, le=1)] = 0.92
    """The least of a face's side that a view takes."""
    turn: Annotated[float, Field(ge=0, lt=45)] = 0.0
    """Degrees to either side."""
    light: Annotated[float, Field(ge=0)] = 0.1
    """Brightness is raised to a power between 1 / (1 + light) and 1 + light."""
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Each channel is multiplied by 1 - colour to 1 + colour."""


class TinyRecipe(Schedule):
    """What all stages share."""

    faces: FacesRecipe = FacesRecipe()


class AutoencoderRecipe(TinyRecipe):
    """L1 + lpips x LPIPS + kl x KL, the last a mean over the latents' numbers; the learning rate falls to 0."""

    stage: Literal["autoencoder"]
    widths: tuple[Width, Width, Width, Width]
    """Channels at the side of an image, and at a half, a quarter and an eighth of it."""
    latent_channels: Positive
    start: str | None = None
    """Folder of an autoencoder of these widths to begin with, or of one of the package; null: begin anew.
    Of one with more `latent_channels` their principal components are kept."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the run in which the learning rate rises: Adam's first steps throw trained weights far off."""
    lpips: Annotated[float, Field(ge=0)]
    kl: Annotated[float, Field(ge=0)]
    halved: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the same L1 and LPIPS between images and latents that are both made half as large, before decoding:
    latents that hold little at their own scale alone are easier to learn (Kouzelis et al. 2025; Skorokhodov 2025)."""


class TransformerRecipe(TinyRecipe):
    """Warm-up, constant, and over the last 40% a fall to 3% of the learning rate."""

    steps: Positive
    warmup: Annotated[int, Field(ge=0)]
    """Steps."""
    compiled: bool = False
    """Run the transformer by torch.compile: a minute at the start, then a third less time. Needs a C++ compiler."""
    muon: bool = False
    """Muon for the matrices in the transformer's blocks, AdamW for all else; false: AdamW for all."""


class NoisedRecipe(TransformerRecipe):
    """What is learned at any point between noise and faces."""

    shift: Annotated[float, Field(ge=1)] = 1.0
    """Points are drawn shifted towards noise, t to s t / (1 + (s - 1) t): twice the side, twice the shift, for more
    pixels show through more noise (Esser et al. 2024, section 5.3.2)."""


class FlowRecipe(NoisedRecipe):
    """Rectified flow on captions, with the text encoders: what `tiny-dev` is before guidance is built in."""

    stage: Literal["flow"]
    start: str | None = None
    """Folder of a pipeline of whatever side, or one of the package, to begin with its transformer (but the layers
    that touch latents of other channels), text encoders and tokenizers, not new ones of the sizes below; null: anew."""
    captions: Positive
    """Captions drawn for each face."""
    views: Positive
    """Views of each face."""
    dropped: Annotated[float, Field(ge=0, lt=1)]
    """Share of captions left empty, for classifier-free guidance."""
    heads: Positive
    """Attention heads of 64 channels."""
    double: Positive
    single: Positive
    text_width: Annotated[int, Field(ge=32, multiple_of=32)]
    text_layers: Positive
    vocabulary: Annotated[int, Field(ge=600, le=32767)]
    """Of either tokenizer; CLIP's needs 514 for the bytes alone."""


class GuidanceRecipe(NoisedRecipe):
    """The flow with guidance in one pass: `tiny-dev`."""

    stage: Literal["guidance"]
    captions: Positive
    views: Positive
    strongest: Annotated[float, Field(gt=1)]
    """Guidance is learned from 1 to this."""


class StepsRecipe(TransformerRecipe):
    """The flow made straight, for four steps: `tiny-schnell`."""

    stage: Literal["steps"]
    captions: Positive
    """Courses of tiny-dev, from noise to image, for captions of each training face."""
    guidance: Annotated[float, Field(ge=1)]
    """That of the courses."""
    course_steps: Positive


class DistillationRecipe(TransformerRecipe):
    """One step of the student for several of the teacher, in each of equal segments of time: `tiny-schnell` too."""

    stage: Literal["distillation"]
    captions: Positive
    views: Positive
    guidance: Annotated[float, Field(ge=1)]
    """The teacher's."""
    segments: Positive
    """The student's steps."""
    teacher_steps: Positive
    """Of the teacher in a segment."""
    begin: Literal["faces", "courses"]
    """Where a segment begins, but the first, which begins with noise: at noised faces, or where the teacher came to."""
    double: Positive | None = None
    single: Positive | None = None
    """Blocks that the student keeps, spread evenly over the teacher's; null: all."""


class RealismRecipe(TinyRecipe):
    """A LoRA for the student, mmd x MMD² + lpips x LPIPS: `tiny-realism-lora`."""

    stage: Literal["realism"]
    rank: Positive
    captions: Positive
    """Captions drawn for each training face, to ask the student with."""
    views: Positive
    """Views of each face."""
    enlarged: Annotated[int, Field(ge=64)]
    """Side at which AlexNet sees images, px."""
    mmd: Annotated[float, Field(ge=0)]
    lpips: Annotated[float, Field(ge=0)]
    memory: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the running mean of what the LoRA changes."""


StageRecipe = AutoencoderRecipe | FlowRecipe | GuidanceRecipe | StepsRecipe | DistillationRecipe | RealismRecipe
STAGES: dict[str, type[BaseModel]] = {
    "autoencoder": AutoencoderRecipe,
    "flow": FlowRecipe,
    "guidance": GuidanceRecipe,
    "steps": StepsRecipe,
    "distillation": DistillationRecipe,
    "realism": RealismRecipe,
}
_stage_adapter: TypeAdapter[StageRecipe] = TypeAdapter(Annotated[StageRecipe, Field(discriminator="stage")])


def read_stage(path: Path) -> StageRecipe:
    """Raises:
    RecipeError: the file can't be read, is no YAML, or has a key or a value that doesn't belong.
    """
    return read_with(path, lambda data: validated(data, "stage", STAGES, _stage_adapter))
