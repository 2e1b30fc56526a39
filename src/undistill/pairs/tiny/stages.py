"""The four stages: what each learns from, how, and the folder that it leaves."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPTokenizer, T5TokenizerFast

from undistill.errors import UsageError
from undistill.heads.head import WEIGHTS
from undistill.pairs.tiny.autoencoder import Autoencoder
from undistill.pairs.tiny.courses import Courses, draw_courses
from undistill.pairs.tiny.faces import Views, list_faces
from undistill.pairs.tiny.flow import Flow, Guided, Shortened, Straight
from undistill.pairs.tiny.model import Velocity, build_clip, build_t5, build_transformer
from undistill.pairs.tiny.prompts import Captioned, draw_captions, encode, tokens
from undistill.pairs.tiny.recipe import AutoencoderRecipe, FlowRecipe, GuidanceRecipe, Recipe, StepsRecipe
from undistill.pairs.tiny.tokenizers import clip_tokenizer, t5_tokenizer
from undistill.training.folder import Inventory
from undistill.training.loop import Method

TRAIN, HELD_OUT = (0.0, 0.8), (0.8, 1.0)
Data = Dataset[tuple[Tensor, ...]]
Tokenizers = tuple[T5TokenizerFast, CLIPTokenizer]


@dataclass(frozen=True)
class Stage:
    """A stage, ready to run; `export` writes what it made and returns the folder."""

    method: Method
    training: Data
    validation: Data
    export: Callable[[], Path]


def prepare(recipe: Recipe, fabric: Fabric, data: Path, out: Path) -> Stage:
    """Raises:
    UsageError: the data are not there, or an earlier stage has not been run.
    """
    match recipe:
        case AutoencoderRecipe():
            return _autoencoder(recipe, fabric, data, out)
        case FlowRecipe():
            return _flow(recipe, fabric, data, out)
        case GuidanceRecipe():
            return _guidance(recipe, fabric, data, out)
        case StepsRecipe():
            return _steps(recipe, fabric, data, out)


def inventory(data: Path) -> Inventory:
    """How many faces are trained on and held out, and a hash of their names."""
    return {
        word: {"images": len(faces), "sha256": sha256("\n".join(face.path.name for face in faces).encode()).hexdigest()}
        for word, faces in {"train": list_faces(data, TRAIN), "held-out": list_faces(data, HELD_OUT)}.items()
    }


def _autoencoder(recipe: AutoencoderRecipe, fabric: Fabric, data: Path, out: Path) -> Stage:
    method = Autoencoder(fabric, recipe)
    faces = list_faces(data, TRAIN)

    def export() -> Path:
        vae = deepcopy(method.averages["vae"].module)
        assert isinstance(vae, AutoencoderKL)
        vae.register_to_config(shift_factor=0.0, scaling_factor=1.0)
        latents = encode(vae, faces, 2, recipe.seed)
        vae.register_to_config(shift_factor=float(latents.mean()), scaling_factor=1 / float(latents.std()))
        return _save(out / "tiny-autoencoder", vae)

    return Stage(method, Views(faces, recipe.seed), Views(list_faces(data, HELD_OUT), None), export)


def _flow(recipe: FlowRecipe, fabric: Fabric, data: Path, out: Path) -> Stage:
    vae = _load_autoencoder(out)
    captions = draw_captions(list_faces(data, TRAIN), recipe.captions, recipe.seed)
    tokenizers = t5_tokenizer(captions, recipe.vocabulary), clip_tokenizer(captions, recipe.vocabulary)
    network = Velocity(
        build_transformer(recipe, vae.config.latent_channels),
        build_t5(recipe),
        build_clip(recipe, tokenizers[1]),
    )
    method = Flow(fabric, recipe, network, Straight(_empty(tokenizers, fabric)), vae)
    training, validation = _captioned(recipe, recipe.dropped, data, vae, tokenizers)
    export = lambda: _save(out / "tiny-flow", _pipeline(method.average, vae, tokenizers))  # noqa: E731
    return Stage(method, training, validation, export)


def _guidance(recipe: GuidanceRecipe, fabric: Fabric, data: Path, out: Path) -> Stage:
    if not (out / "tiny-flow").is_dir():
        raise UsageError(f"{out / 'tiny-flow'} is not there: train the stage flow first")
    before, vae, tokenizers = _load(out / "tiny-flow")
    before.to(fabric.device)
    network = deepcopy(before)
    for encoder in (network.t5, network.clip):
        encoder.requires_grad_(False)
    method = Flow(fabric, recipe, network, Guided(before, _empty(tokenizers, fabric), recipe.strongest), vae)
    training, validation = _captioned(recipe, 0.0, data, vae, tokenizers)
    export = lambda: _save(out / "tiny-dev", _pipeline(method.average, vae, tokenizers))  # noqa: E731
    return Stage(method, training, validation, export)


def _steps(recipe: StepsRecipe, fabric: Fabric, data: Path, out: Path) -> Stage:
    own = out / "tiny-dev"
    dev, vae, tokenizers = _load(own if own.is_dir() else WEIGHTS / "tiny-dev")
    dev.to(fabric.device)
    method = Flow(fabric, recipe, _without_guidance(dev, recipe.guidance), Shortened(), vae)
    drawn = {
        split: draw_courses(
            dev.eval(),
            [tokens(tokenizer, texts) for tokenizer in tokenizers],
            recipe,
            fabric,
            out / "steps" / f"courses-{split}.safetensors",
        )
        for split, texts in {
            "train": draw_captions(list_faces(data, TRAIN), recipe.captions, recipe.seed + 1),
            "held-out": draw_captions(list_faces(data, HELD_OUT), 1, recipe.seed + 1),
        }.items()
    }

    def export() -> Path:
        transformer = method.average.transformer
        folder = _save(out / "tiny-schnell" / "transformer", transformer)
        FlowMatchEulerDiscreteScheduler(shift=1.0).save_pretrained(folder.parent / "scheduler")
        return folder.parent

    training = Courses(drawn["train"], recipe.seed, recipe.seed)
    return Stage(method, training, Courses(drawn["held-out"], recipe.seed, None), export)


def _without_guidance(dev: Velocity, guidance: float) -> Velocity:
    """A network that says without an embedding of guidance what this one says at `guidance`, exactly."""
    old = dev.transformer
    new = FluxTransformer2DModel.from_config({**old.config, "guidance_embeds": False})
    weights = {name: tensor for name, tensor in old.state_dict().items() if "guidance_embedder" not in name}
    embed = old.time_text_embed
    with torch.no_grad():
        at = torch.tensor([1000 * guidance], device=old.device)
        constant = embed.guidance_embedder(embed.time_proj(at))[0]
    bias = "time_text_embed.timestep_embedder.linear_2.bias"
    weights[bias] = weights[bias] + constant
    new.load_state_dict(weights)
    network = Velocity(new, dev.t5, dev.clip)
    for encoder in (network.t5, network.clip):
        encoder.requires_grad_(False)
    return network.to(old.device)


def _captioned(
    recipe: FlowRecipe | GuidanceRecipe, dropped: float, data: Path, vae: AutoencoderKL, tokenizers: Tokenizers
) -> tuple[Data, Data]:
    def one(split: tuple[float, float], views: int, captions: int, seed: int | None) -> Data:
        faces = list_faces(data, split)
        texts = [*draw_captions(faces, captions, recipe.seed), ""]
        ids = tokens(tokenizers[0], texts), tokens(tokenizers[1], texts)
        return Captioned(encode(vae, faces, views, recipe.seed), ids, dropped, seed)

    return one(TRAIN, recipe.views, recipe.captions, recipe.seed), one(HELD_OUT, 1, 1, None)


def _empty(tokenizers: Tokenizers, fabric: Fabric) -> tuple[Tensor, Tensor]:
    t5, clip = (torch.from_numpy(tokens(each, [""]).astype(np.int64)).to(fabric.device) for each in tokenizers)
    return t5, clip


def _load_autoencoder(out: Path) -> AutoencoderKL:
    own = out / "tiny-autoencoder"
    shipped = WEIGHTS / "tiny-dev" / "vae"
    if not own.is_dir() and not shipped.is_dir():
        raise UsageError(f"{own} is not there: train the stage autoencoder first")
    vae = AutoencoderKL.from_pretrained(own if own.is_dir() else shipped, torch_dtype=torch.float32)
    return vae.eval().requires_grad_(False)


def _load(folder: Path) -> tuple[Velocity, AutoencoderKL, Tokenizers]:
    pipeline = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    network = Velocity(pipeline.transformer, pipeline.text_encoder_2, pipeline.text_encoder)
    return network, pipeline.vae.eval().requires_grad_(False), (pipeline.tokenizer_2, pipeline.tokenizer)


def _pipeline(network: Velocity, vae: AutoencoderKL, tokenizers: Tokenizers) -> FluxPipeline:
    return FluxPipeline(
        # dev's own: shifted towards noise the more, the larger the image is.
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=deepcopy(vae),
        text_encoder=deepcopy(network.clip),
        tokenizer=tokenizers[1],
        text_encoder_2=deepcopy(network.t5),
        tokenizer_2=tokenizers[0],
        transformer=deepcopy(network.transformer),
    )


def _save(folder: Path, model: AutoencoderKL | FluxTransformer2DModel | FluxPipeline) -> Path:
    """Write in float16, beside its place, and renamed."""
    beside = folder.with_name(f".{folder.name}.part")
    rmtree(beside, ignore_errors=True)
    deepcopy(model).to(torch.float16).save_pretrained(beside)
    rmtree(folder, ignore_errors=True)
    return beside.rename(folder)
