"""A FLUX pair of the smallest size, untrained: what it draws is noise, how it is drawn is FLUX's."""

from pathlib import Path

import torch
import yaml
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_pair(folder: Path) -> Path:
    """A whole teacher in folder/dev, the student's denoiser and scheduler in folder/schnell; returns the pair spec."""
    torch.manual_seed(0)
    dev = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=AutoencoderKL(
            block_out_channels=(16, 16, 16, 16),
            norm_num_groups=8,
            layers_per_block=1,
            latent_channels=16,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.1,
            scaling_factor=0.5,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(_clip_words()),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=77,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        ),
        tokenizer=clip_tokenizer(),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=3 + len(LETTERS), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        ),
        tokenizer_2=_t5_tokenizer(),
        transformer=_transformer(guided=True),
    )
    dev.set_progress_bar_config(disable=True)
    dev.save_pretrained(folder / "dev")
    _transformer(guided=False).save_pretrained(folder / "schnell" / "transformer")
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "schnell" / "scheduler")
    side = {"guidance": 3.0, "max_sequence_length": 16}
    spec = {
        "name": "miniature",
        "size": 32,
        "dtype": "float32",
        "student": {**side, "model": str(folder / "schnell"), "rest": str(folder / "dev"), "steps": 2, "guidance": 0},
        "teacher": {**side, "model": str(folder / "dev"), "steps": 4, "strength": 0.5},
    }
    path = folder / "miniature.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def _transformer(guided: bool) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=guided,
        axes_dims_rope=(4, 6, 6),
    )


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
