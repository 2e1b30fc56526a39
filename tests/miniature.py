"""Pairs of the smallest size, untrained: what they draw is noise, how it is drawn is that of the real ones.

Their classes and configurations are the real ones' (undistill/pairs/configs), but narrow and of few layers.
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTokenizer, T5TokenizerFast

from undistill.pairs.load import WeightsRef
from undistill.pairs.networks import read_config

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SCHNELL, DEV = "black-forest-labs/FLUX.1-schnell", "black-forest-labs/FLUX.1-dev"

FLUX = {
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (4, 6, 6),
}
SD3 = {
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "caption_projection_dim": 32,
    "joint_attention_dim": 48,
    "pooled_projection_dim": 48,
    "pos_embed_max_size": 8,
    "sample_size": 4,
}
SDXL = {
    "block_out_channels": (8, 16, 16),
    "transformer_layers_per_block": (1, 1, 1),
    "attention_head_dim": (1, 2, 2),
    "norm_num_groups": 4,
    "cross_attention_dim": 48,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 32 + 6 * 8,
    "sample_size": 4,
}


def write_pair(folder: Path) -> Path:
    """`flux1`: a whole teacher in folder/dev, the student's transformer and scheduler in folder/schnell."""
    torch.manual_seed(0)
    encoders = {"text_encoder": _clip(DEV, "text_encoder", 16), "text_encoder_2": _t5(DEV, "text_encoder_2", 16)}
    tokenizers = {"tokenizer": clip_tokenizer(), "tokenizer_2": _t5_tokenizer()}
    transformer = make(DEV, "transformer", **FLUX)
    write(folder / "dev", DEV, **encoders, **tokenizers, vae=vae(DEV), transformer=transformer)
    student = make(SCHNELL, "transformer", **FLUX)
    student.save_pretrained(folder / "schnell" / "transformer")
    scheduler(SCHNELL).save_pretrained(folder / "schnell" / "scheduler")
    side = {"guidance": 3.0, "max_sequence_length": 16}
    return write_spec(
        folder / "miniature.yaml",
        student={**side, "model": str(folder / "schnell"), "rest": str(folder / "dev"), "steps": 2, "guidance": 0},
        teacher={**side, "model": str(folder / "dev"), "steps": 4, "strength": 0.5},
    )


def write_sdxl(folder: Path) -> Path:
    """`sdxl-turbo`: a whole student in folder/turbo, the teacher's U-Net and scheduler in folder/base."""
    turbo, base = "stabilityai/sdxl-turbo", "stabilityai/stable-diffusion-xl-base-1.0"
    torch.manual_seed(0)
    parts = {
        "text_encoder": _clip(turbo, "text_encoder", 16),
        "text_encoder_2": _clip(turbo, "text_encoder_2", 32),
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": clip_tokenizer(),
        "vae": vae(turbo, down=3),
    }
    write(folder / "turbo", turbo, **parts, unet=make(turbo, "unet", **SDXL))
    make(base, "unet", **SDXL).save_pretrained(folder / "base" / "unet")
    scheduler(base).save_pretrained(folder / "base" / "scheduler")
    return write_spec(folder / "sdxl.yaml", **distilled(folder / "turbo", folder / "base"))


def write_sd35(folder: Path) -> Path:
    """`sd35-turbo`: a whole student in folder/turbo, the teacher's transformer and scheduler in folder/large."""
    turbo, large = "stabilityai/stable-diffusion-3.5-large-turbo", "stabilityai/stable-diffusion-3.5-large"
    torch.manual_seed(0)
    parts = {
        "text_encoder": _clip(turbo, "text_encoder", 16),
        "text_encoder_2": _clip(turbo, "text_encoder_2", 32),
        "text_encoder_3": _t5(turbo, "text_encoder_3", 48),
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": clip_tokenizer(),
        "tokenizer_3": _t5_tokenizer(),
        "vae": vae(turbo),
    }
    write(folder / "turbo", turbo, **parts, transformer=make(turbo, "transformer", **SD3))
    make(large, "transformer", **SD3).save_pretrained(folder / "large" / "transformer")
    scheduler(large).save_pretrained(folder / "large" / "scheduler")
    sides = distilled(folder / "turbo", folder / "large")
    for side in sides.values():
        side["max_sequence_length"] = 16
    return write_spec(folder / "sd35.yaml", **sides)


def distilled(student: Path, teacher: Path) -> dict[str, dict[str, Any]]:
    return {
        "student": {"model": str(student), "steps": 2, "guidance": 0},
        "teacher": {"model": str(teacher), "rest": str(student), "steps": 4, "guidance": 3.0, "strength": 0.5},
    }


def write_spec(path: Path, **sides: Any) -> Path:
    path.write_text(yaml.safe_dump({"name": "miniature", "size": 32, "dtype": "float32", **sides}))
    return path


def write(folder: Path, repository: str, **parts: Any) -> None:
    """A pipeline of the repository's class."""
    index = read_config(WeightsRef(repository), "model_index.json")
    empty = {name: None for name, value in index.items() if value == [None, None]}
    kind = getattr(diffusers, index["_class_name"])
    pipeline = kind(scheduler=scheduler(repository), **parts, **empty)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)


def scheduler(repository: str) -> Any:
    settings = read_config(WeightsRef(repository), "scheduler/scheduler_config.json")
    return getattr(diffusers, settings["_class_name"]).from_config(settings)


def make(repository: str, part: str, **narrow: Any) -> Any:
    """A network with the real one's configuration, but for `narrow`."""
    library, kind = read_config(WeightsRef(repository), "model_index.json")[part]
    settings = {**read_config(WeightsRef(repository), f"{part}/config.json"), **narrow}
    if library == "diffusers":
        return getattr(diffusers, kind).from_config(settings)
    network = getattr(transformers, kind)
    return network(network.config_class(**settings))


def vae(repository: str, down: int = 4) -> Any:
    return make(
        repository,
        "vae",
        block_out_channels=(16,) * down,
        down_block_types=("DownEncoderBlock2D",) * down,
        up_block_types=("UpDecoderBlock2D",) * down,
        norm_num_groups=8,
        layers_per_block=1,
        sample_size=32,
    )


def _clip(repository: str, part: str, width: int) -> Any:
    return make(
        repository,
        part,
        vocab_size=len(_clip_words()),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=32,
        num_hidden_layers=2,  # SDXL takes the last but one
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )


def _t5(repository: str, part: str, width: int) -> Any:
    vocabulary = 3 + len(LETTERS)
    return make(repository, part, vocab_size=vocabulary, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2)


def _clip_words() -> dict[str, int]:
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    return {word: number for number, word in enumerate(words)}


def clip_tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(vocab=_clip_words(), merges=[], model_max_length=77)


def _t5_tokenizer() -> T5TokenizerFast:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in LETTERS)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return T5TokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", extra_ids=0
    )
