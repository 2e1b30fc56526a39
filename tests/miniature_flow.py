"""Miniatures of the pairs of 2026, as tests/miniature.py makes the others: FLUX.2 klein, Z-Image and Qwen-Image."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

from tests.miniature import distilled, make, scheduler, vae, write, write_spec

KLEIN, BASE = "black-forest-labs/FLUX.2-klein-4B", "black-forest-labs/FLUX.2-klein-base-4B"
TURBO, Z_IMAGE = "Tongyi-MAI/Z-Image-Turbo", "Tongyi-MAI/Z-Image"
QWEN = "Qwen/Qwen-Image"
LENGTH = 32
"""Tokens of a prompt, a byte each."""

FLUX2 = {
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 3 * 16,
    "axes_dims_rope": (4, 4, 4, 4),
    "timestep_guidance_channels": 16,
}
Z = {
    "dim": 32,
    "n_heads": 2,
    "n_kv_heads": 2,
    "n_layers": 1,
    "n_refiner_layers": 1,
    "cap_feat_dim": 16,
    "axes_dims": (4, 6, 6),
}
QWEN_IMAGE = {
    "num_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "axes_dims_rope": (4, 6, 6),
}
NARROW = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}

ENDS = {"bos_token_id": 0, "eos_token_id": 0}


def write_klein(folder: Path) -> Path:
    """`flux2-klein`: a whole student in folder/klein; in folder/base the teacher's transformer, and what says that it
    takes guidance."""
    torch.manual_seed(0)
    parts = {
        "text_encoder": _qwen3(KLEIN, layers=28),  # its embeddings are of layers 9, 18 and 27
        "tokenizer": qwen_tokenizer(),
        "vae": vae(KLEIN),
    }
    write(folder / "klein", KLEIN, **parts, transformer=make(KLEIN, "transformer", **FLUX2), is_distilled=True)
    write(folder / "base", BASE, **parts, transformer=make(BASE, "transformer", **FLUX2), is_distilled=False)
    return _spec(folder, "klein", "base", LENGTH)


def write_z_image(folder: Path) -> Path:
    """`z-image-turbo`: a whole student in folder/turbo, the teacher's transformer and scheduler in folder/base."""
    torch.manual_seed(0)
    parts = {"text_encoder": _qwen3(TURBO, layers=2), "tokenizer": qwen_tokenizer(), "vae": vae(TURBO)}
    write(folder / "turbo", TURBO, **parts, transformer=make(TURBO, "transformer", **Z))
    make(Z_IMAGE, "transformer", **Z).save_pretrained(folder / "base" / "transformer")
    scheduler(Z_IMAGE).save_pretrained(folder / "base" / "scheduler")
    return _spec(folder, "turbo", "base", LENGTH)


def write_qwen_image(folder: Path) -> Path:
    """`qwen-image-lightning`: a whole teacher in folder/qwen, the student's LoRA in folder/lightning.safetensors."""
    torch.manual_seed(0)
    text = {**NARROW, **ENDS, "vocab_size": len(_words()), "num_hidden_layers": 1, "max_position_embeddings": 512}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    seen = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 16}
    parts = {
        "text_encoder": make(
            QWEN,
            "text_encoder",
            text_config={**text, "rope_parameters": rope, "rope_scaling": rope, "model_type": "qwen2_5_vl_text"},
            **ENDS,
            vision_config={**seen, "fullatt_block_indexes": [0], "model_type": "qwen2_5_vl"},
        ),
        "tokenizer": qwen_tokenizer(),
        "vae": make(QWEN, "vae", base_dim=8),
        "transformer": make(QWEN, "transformer", **QWEN_IMAGE),
    }
    write(folder / "qwen", QWEN, **parts)
    key = "transformer.transformer_blocks.0.attn.to_q"
    lora = {f"{key}.lora_A.weight": torch.randn(4, 32), f"{key}.lora_B.weight": torch.randn(32, 4)}
    save_file(lora, folder / "lightning.safetensors")
    sides = distilled(folder / "qwen", folder / "qwen")
    sides["student"] |= {
        "lora": str(folder / "lightning.safetensors"),
        "scheduler": {"base_shift": 1.1, "max_shift": 1.1, "shift_terminal": None},
        "guidance": 1.0,
    }
    del sides["teacher"]["rest"]
    for side in sides.values():
        side["max_sequence_length"] = 512  # the words around a prompt alone are 200 bytes
    return write_spec(folder / "qwen.yaml", **sides)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """A token a byte, and no words around a prompt."""
    tokenizer = Qwen2Tokenizer(vocab=_words(), merges=[])
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return tokenizer


def _spec(folder: Path, student: str, teacher: str, length: int) -> Path:
    sides = distilled(folder / student, folder / teacher)
    for side in sides.values():
        side["max_sequence_length"] = length
    return write_spec(folder / f"{student}.yaml", **sides)


def _qwen3(repository: str, layers: int) -> Any:
    small = {**NARROW, "head_dim": 8, "vocab_size": len(_words()), "num_hidden_layers": layers}
    return make(repository, "text_encoder", **small, max_position_embeddings=64)


def _words() -> dict[str, int]:
    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet())]
    return {word: number for number, word in enumerate(words)}
