"""The stages: what each learns from, how, and the folder that it leaves."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPTokenizer, T5TokenizerFast

from research.tiny.autoencoder import Autoencoder
from research.tiny.courses import Course, Courses, draw_courses, kept
from research.tiny.faces import TrainingFace, Views, all_views, list_faces
from research.tiny.flow import Flow, Guided, Segments, Shortened, Straight, compile_transformer
from research.tiny.model import Velocity, build_clip, build_t5, build_transformer, for_latents, latent_shape
from research.tiny.prompts import Captioned, draw_captions, encode_faces, tokens
from research.tiny.realism import Questions, Realism
from research.tiny.recipe import (
    AutoencoderRecipe,
    DistillationRecipe,
    FlowRecipe,
    GuidanceRecipe,
    RealismRecipe,
    StageRecipe,
    StepsRecipe,
)
from research.tiny.student import with_blocks, without_guidance
from research.tiny.tokenizers import clip_tokenizer, t5_tokenizer
from undistill.base.errors import UsageError
from undistill.base.files import PART, WEIGHTS
from undistill.training.folder import Inventory
from undistill.training.method import Method

TRAIN, HELD_OUT = (0.0, 0.8), (0.8, 0.9)
Data = Dataset[tuple[Tensor, ...]]
_NETWORKS = (".safetensors", ".json")
Tokenizers = tuple[T5TokenizerFast, CLIPTokenizer]

# The stages that a stage builds on; what such a stage leaves in OUT, and where the package has the same.
_EARLIER = {
    "flow": ["autoencoder"],
    "guidance": ["flow"],
    "steps": ["guidance"],
    "distillation": ["guidance"],
    "realism": ["guidance", "steps"],  # distillation leaves what steps leaves
}
_LEFT = {
    "autoencoder": ("tiny-autoencoder", WEIGHTS / "tiny-dev" / "vae"),
    "flow": ("tiny-flow", None),
    "guidance": ("tiny-dev", WEIGHTS / "tiny-dev"),
    "steps": ("tiny-schnell", WEIGHTS / "tiny-schnell"),
}


@dataclass(frozen=True)
class Stage:
    """A stage, ready to run; `export` writes what it made and returns the folder."""

    method: Method
    training: Data
    validation: Data
    export: Callable[[], Path]


@dataclass(frozen=True)
class Faces:
    """The faces that are trained on, and those that validate."""

    train: Sequence[TrainingFace]
    held_out: Sequence[TrainingFace]


def split_faces(data: Sequence[Path], side: int) -> Faces:
    """The faces of folders of portraits, by the splits TRAIN and HELD_OUT; `side` as `list_faces` takes it."""
    return Faces(list_faces(data, TRAIN, side), list_faces(data, HELD_OUT, side))


def earlier(recipe: StageRecipe, out: Path) -> list[Path]:
    """The folders that a stage builds on: of these runs, else of the package; then what it starts from.

    Raises:
        UsageError: one is in neither, or its images are not of the recipe's side.
    """
    if isinstance(recipe, AutoencoderRecipe):
        return [] if recipe.start is None else [_start(recipe.start)]
    folders = [_left_by(before, out) for before in _EARLIER[recipe.stage]]
    first = folders[0] / "vae" if (folders[0] / "vae").is_dir() else folders[0]
    side = json.loads((first / "config.json").read_text())["sample_size"]
    if side != recipe.faces.side:
        raise UsageError(f"{folders[0]} is of {side} px, the recipe of {recipe.faces.side} px: is -o the right folder?")
    if isinstance(recipe, FlowRecipe) and recipe.start is not None:
        folders.append(_start(recipe.start))
    return folders


def _start(name: str) -> Path:
    found = next((folder for folder in (Path(name), WEIGHTS / name) if folder.is_dir()), None)
    if found is None:
        raise UsageError(f"start: {name} is no folder, nor one of the package's weights")
    return found


def _left_by(stage: str, out: Path) -> Path:
    name, shipped = _LEFT[stage]
    found = next((folder for folder in (out / name, shipped) if folder is not None and folder.is_dir()), None)
    if found is None:
        raise UsageError(f"{out / name} is not there: train the stage {stage} first")
    return found


def inventory(faces: Faces, before: Sequence[Path]) -> Inventory:
    """How many faces there are, hashes of their names and of the networks to build on, and Faker's version."""
    found: dict[str, dict[str, int | str]] = {
        word: {"images": len(some), "sha256": sha256("\n".join(face.path.name for face in some).encode()).hexdigest()}
        for word, some in {"train": faces.train, "held-out": faces.held_out}.items()
    }
    if before:
        files = [path for folder in before for path in sorted(folder.rglob("*")) if path.suffix in _NETWORKS]
        whole = sha256(b"".join(sha256(path.read_bytes()).digest() for path in files)).hexdigest()
        found |= {"before": {"sha256": whole}, "faker": {"version": version("faker")}}
    return found


def prepare_stage(recipe: StageRecipe, fabric: Fabric, faces: Faces, before: Sequence[Path], out: Path) -> Stage:
    """Args:
    before: as `earlier` says.
    out: folder of all the runs.
    """
    match recipe:
        case AutoencoderRecipe():
            return _autoencoder(recipe, fabric, faces, before, out)
        case FlowRecipe():
            return _flow(recipe, fabric, faces, before, out)
        case GuidanceRecipe():
            return _guidance(recipe, fabric, faces, before[0], out)
        case StepsRecipe():
            return _steps(recipe, fabric, faces, before[0], out)
        case DistillationRecipe():
            return _distillation(recipe, fabric, faces, before[0], out)
        case RealismRecipe():
            return _realism(recipe, fabric, faces, before, out)


def _autoencoder(recipe: AutoencoderRecipe, fabric: Fabric, faces: Faces, before: Sequence[Path], out: Path) -> Stage:
    training, validation = Views(faces.train, recipe.faces, recipe.seed), Views(faces.held_out, recipe.faces, None)
    method = Autoencoder(fabric, recipe, next(iter(before), None), training)

    def export() -> Path:
        vae = deepcopy(method.averages["vae"].module)
        assert isinstance(vae, AutoencoderKL)
        vae.register_to_config(shift_factor=0.0, scaling_factor=1.0)
        latents = encode_faces(vae, faces.train, recipe.faces, 2, recipe.seed)
        vae.register_to_config(shift_factor=float(latents.mean()), scaling_factor=1 / float(latents.std()))
        return _save(out / "tiny-autoencoder", {".": vae})

    return Stage(method, training, validation, export)


def _flow(recipe: FlowRecipe, fabric: Fabric, faces: Faces, before: Sequence[Path], out: Path) -> Stage:
    vae = AutoencoderKL.from_pretrained(before[0], torch_dtype=torch.float32).eval().requires_grad_(False)
    captions = draw_captions(faces.train, recipe.captions, recipe.seed)
    if recipe.start is not None:
        begun, _, tokenizers = _load(before[1])
        network = Velocity(for_latents(begun.transformer, vae.config.latent_channels), begun.t5, begun.clip).train()
    else:
        tokenizers = t5_tokenizer(captions, recipe.vocabulary), clip_tokenizer(captions, recipe.vocabulary)
        network = Velocity(
            build_transformer(recipe, vae.config.latent_channels),
            build_t5(recipe),
            build_clip(recipe, tokenizers[1]),
        )
    method = Flow(fabric, recipe, network, Straight(_empty(tokenizers, fabric), recipe.shift), vae)
    training, validation = _captioned(recipe, captions, recipe.dropped, faces, vae, tokenizers, out)
    return Stage(method, training, validation, lambda: _save_pipeline(out / "tiny-flow", method, vae, tokenizers))


def _guidance(recipe: GuidanceRecipe, fabric: Fabric, faces: Faces, before: Path, out: Path) -> Stage:
    flow, vae, tokenizers = _load(before)
    flow.to(fabric.device)
    network = deepcopy(flow)
    network.freeze_text()
    if recipe.compiled:
        compile_transformer(flow)
    method = Flow(fabric, recipe, network, Guided(flow, _empty(tokenizers, fabric), recipe), vae)
    captions = draw_captions(faces.train, recipe.captions, recipe.seed)
    training, validation = _captioned(recipe, captions, 0.0, faces, vae, tokenizers, out)
    return Stage(method, training, validation, lambda: _save_pipeline(out / "tiny-dev", method, vae, tokenizers))


def _steps(recipe: StepsRecipe, fabric: Fabric, faces: Faces, before: Path, out: Path) -> Stage:
    dev, vae, tokenizers = _load(before)
    dev.to(fabric.device).eval()
    method = Flow(fabric, recipe, without_guidance(dev, recipe.guidance), Shortened(), vae)

    def courses(some: Sequence[TrainingFace], captions: int, seed: int, name: str) -> Course:
        texts = draw_captions(some, captions, seed)
        ids = [tokens(tokenizer, texts) for tokenizer in tokenizers]
        return draw_courses(dev, latent_shape(vae)[1], ids, recipe, seed, fabric, out / "steps" / f"{name}.safetensors")

    # Their seeds are not the recipes' of the other stages: other captions, and for the held-out ones other noise.
    training = Courses(courses(faces.train, recipe.captions, recipe.seed, "courses"), recipe.seed, endless=True)
    validation = Courses(courses(faces.held_out, 1, recipe.seed + 1, "held-out"), recipe.seed + 1, endless=False)

    return Stage(method, training, validation, lambda: _save_student(out / "tiny-schnell", method))


def _distillation(recipe: DistillationRecipe, fabric: Fabric, faces: Faces, before: Path, out: Path) -> Stage:
    dev, vae, tokenizers = _load(before)
    dev.to(fabric.device)
    student = with_blocks(without_guidance(dev, recipe.guidance), recipe.double, recipe.single)
    if recipe.compiled:
        compile_transformer(dev)
    method = Flow(fabric, recipe, student, Segments(dev, recipe), vae)
    captions = draw_captions(faces.train, recipe.captions, recipe.seed)
    training, validation = _captioned(recipe, captions, 0.0, faces, vae, tokenizers, out)
    return Stage(method, training, validation, lambda: _save_student(out / "tiny-schnell", method))


def _realism(recipe: RealismRecipe, fabric: Fabric, faces: Faces, before: Sequence[Path], out: Path) -> Stage:
    student, vae, tokenizers = load_student(*before)

    def questions(some: Sequence[TrainingFace], captions: int, seed: int, *, endless: bool) -> Questions:
        texts = draw_captions(some, captions, seed)
        ids = [tokens(tokenizer, texts) for tokenizer in tokenizers]
        return Questions(ids, *latent_shape(vae), seed, endless=endless)

    training = questions(faces.train, recipe.captions, recipe.seed, endless=True)
    views = all_views(faces.train, recipe.faces, recipe.views, recipe.seed).flatten(0, 1)
    method = Realism(fabric, recipe, student, vae, views, training)

    def export() -> Path:
        return _replaced(out / "tiny-realism-lora", method.save)

    return Stage(method, training, questions(faces.held_out, 1, recipe.seed + 1, endless=False), export)


def _captioned(
    recipe: FlowRecipe | GuidanceRecipe | DistillationRecipe,
    captions: Sequence[str],
    dropped: float,
    faces: Faces,
    vae: AutoencoderKL,
    tokenizers: Tokenizers,
    out: Path,
) -> tuple[Data, Data]:
    """The training and the validation data. Latents are kept in the run: its faces and networks stay the same."""

    def one(some: Sequence[TrainingFace], views: int, texts: Sequence[str], seed: int | None, name: str) -> Data:
        def encode() -> dict[str, Tensor]:
            return {"latents": encode_faces(vae, some, recipe.faces, views, recipe.seed).contiguous()}

        latents = kept(out / recipe.stage / f"{name}.safetensors", encode)["latents"]
        ids = tokens(tokenizers[0], [*texts, ""]), tokens(tokenizers[1], [*texts, ""])
        return Captioned(latents, ids, dropped, seed)

    held_out = draw_captions(faces.held_out, 1, recipe.seed)
    training = one(faces.train, recipe.views, captions, recipe.seed, "latents")
    return training, one(faces.held_out, 1, held_out, None, "held-out")


def _empty(tokenizers: Tokenizers, fabric: Fabric) -> tuple[Tensor, Tensor]:
    t5, clip = (torch.from_numpy(tokens(each, [""]).astype(np.int64)).to(fabric.device) for each in tokenizers)
    return t5, clip


def _load(folder: Path) -> tuple[Velocity, AutoencoderKL, Tokenizers]:
    pipeline = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    network = Velocity(pipeline.transformer, pipeline.text_encoder_2, pipeline.text_encoder)
    return network, pipeline.vae.eval().requires_grad_(False), (pipeline.tokenizer_2, pipeline.tokenizer)


def load_student(dev: Path, schnell: Path) -> tuple[Velocity, AutoencoderKL, Tokenizers]:
    """schnell's transformer, and all else from dev."""
    network, vae, tokenizers = _load(dev)
    transformer = FluxTransformer2DModel.from_pretrained(schnell / "transformer", torch_dtype=torch.float32)
    return Velocity(transformer, network.t5, network.clip), vae, tokenizers


def _save_pipeline(folder: Path, method: Flow, vae: AutoencoderKL, tokenizers: Tokenizers) -> Path:
    network = method.average
    pipeline = FluxPipeline(
        # dev's own: shifted towards noise the more, the larger the image is.
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=network.clip,
        tokenizer=tokenizers[1],
        text_encoder_2=network.t5,
        tokenizer_2=tokenizers[0],
        transformer=network.transformer,
    )
    return _save(folder, {".": pipeline})


def _save_student(folder: Path, method: Flow) -> Path:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    return _save(folder, {"transformer": method.average.transformer, "scheduler": scheduler})


def _save(folder: Path, parts: Mapping[str, Any]) -> Path:
    """Write diffusers' models, schedulers and pipelines by their subfolders, in float16."""

    def write(beside: Path) -> None:
        for name, part in parts.items():
            small = part if isinstance(part, FlowMatchEulerDiscreteScheduler) else deepcopy(part).to(torch.float16)
            small.save_pretrained(beside / name)
        for path in beside.rglob("config.json"):
            config = json.loads(path.read_text())
            config.pop("_name_or_path", None)  # the folder that it was loaded from, on this machine
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    return _replaced(folder, write)


def _replaced(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder, written whole or not at all."""
    beside, old = (folder.with_name(f".{folder.name}.{word}{PART}") for word in ("new", "old"))
    rmtree(beside, ignore_errors=True)
    write(beside)
    rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    beside.rename(folder)
    rmtree(old, ignore_errors=True)
    return folder
