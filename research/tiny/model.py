"""tiny's networks: FLUX's transformer, CLIP's and T5's text encoders, and how they are called."""

from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel

from research.tiny.recipe import FlowRecipe
from research.tiny.tokenizers import LENGTH

Real = TypeVar("Real", float, Tensor)
HEAD = 64
"""Channels of an attention head."""


def build_transformer(recipe: FlowRecipe, latent_channels: int) -> FluxTransformer2DModel:
    """With modulations and output of zero, so that each block begins by changing nothing (Peebles & Xie 2023)."""
    transformer = FluxTransformer2DModel(
        in_channels=4 * latent_channels,
        num_layers=recipe.double,
        num_single_layers=recipe.single,
        attention_head_dim=HEAD,
        num_attention_heads=recipe.heads,
        joint_attention_dim=recipe.text_width,
        pooled_projection_dim=recipe.text_width,
        guidance_embeds=True,
        axes_dims_rope=(16, 24, 24),
    )
    modulations = [
        *(
            layer
            for block in transformer.transformer_blocks
            for layer in (block.norm1.linear, block.norm1_context.linear)
        ),
        *(block.norm.linear for block in transformer.single_transformer_blocks),
    ]
    for layer in (*modulations, transformer.norm_out.linear, transformer.proj_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return transformer


def for_latents(transformer: FluxTransformer2DModel, channels: int) -> FluxTransformer2DModel:
    """The transformer for latents of so many channels: where they are others, its first and last layers are new."""
    if transformer.config.in_channels == 4 * channels:
        return transformer
    new = FluxTransformer2DModel.from_config({**transformer.config, "in_channels": 4 * channels})
    nn.init.zeros_(new.proj_out.weight)
    nn.init.zeros_(new.proj_out.bias)
    own = {name: w for name, w in new.state_dict().items() if name.startswith(("x_embedder.", "proj_out."))}
    new.load_state_dict(transformer.state_dict() | own)
    return new


def build_t5(recipe: FlowRecipe) -> T5EncoderModel:
    """A T5 encoder with new weights, of the recipe's sizes."""
    width = recipe.text_width
    return T5EncoderModel(
        T5Config(
            vocab_size=recipe.vocabulary,
            d_model=width,
            d_kv=32,
            d_ff=2 * width,
            num_layers=recipe.text_layers,
            num_heads=width // 32,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def build_clip(recipe: FlowRecipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text model with new weights, which gives the pooled embedding of a prompt."""
    width = recipe.text_width
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=width // 32,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def latent_shape(vae: AutoencoderKL) -> tuple[int, int]:
    """Channels and side of the latents of the images that an autoencoder was trained on."""
    return vae.config.latent_channels, vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1)


def pack(latents: Tensor) -> Tensor:
    """(N, C, H, W) to the transformer's (N, H/2 x W/2, 4C)."""
    packed: Tensor = FluxPipeline._pack_latents(latents, *latents.shape)
    return packed


def unpack(tokens: Tensor, side: int) -> Tensor:
    """Undo `pack` for square latents of `side`."""
    latents: Tensor = FluxPipeline._unpack_latents(tokens, side, side, 1)
    return latents


class Velocity(nn.Module):
    """The networks of a flow: (N, C, H, W) latents at `t`, ids of a caption, and guidance, to dx/dt of the same shape.

    Straight from noise at t = 1 to data at t = 0: x_t = (1 - t) x + t e, dx/dt = e - x  (Liu et al. 2023, eq. 1).

    Args:
        t: (N,) in [0, 1].
        guidance: (N,); None where the transformer has none built in.
    """

    def __init__(self, transformer: FluxTransformer2DModel, t5: T5EncoderModel, clip: CLIPTextModel) -> None:
        super().__init__()
        self.transformer = transformer
        self.t5 = t5
        self.clip = clip
        # FLUX's transformer takes time and guidance in the type of its first layer's output: under autocast bfloat16,
        # which tells 1000 t no finer than by 4.
        transformer.x_embedder.register_forward_hook(_float)

    def freeze_text(self) -> None:
        """The text encoders learn no more."""
        for encoder in (self.t5, self.clip):
            encoder.requires_grad_(False)

    def encode(self, t5_ids: Tensor, clip_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(N, LENGTH, width) and (N, width)."""
        return self.t5(t5_ids).last_hidden_state, self.clip(clip_ids).pooler_output

    def forward(self, x: Tensor, t: Tensor, text: tuple[Tensor, Tensor], guidance: Tensor | None) -> Tensor:
        sequence, pooled = text
        side = x.shape[-1]
        tokens = self.transformer(
            hidden_states=pack(x),
            encoder_hidden_states=sequence,
            pooled_projections=pooled,
            timestep=t,
            img_ids=FluxPipeline._prepare_latent_image_ids(1, side // 2, side // 2, x.device, torch.float32),
            txt_ids=torch.zeros(sequence.shape[1], 3, device=x.device),
            guidance=guidance,
            return_dict=False,
        )[0]
        return unpack(tokens, side)

    def guided(
        self, x: Tensor, t: Tensor, text: tuple[Tensor, Tensor], empty: tuple[Tensor, Tensor], by: Tensor
    ) -> Tensor:
        """v(empty) + by x (v(text) - v(empty)) (Ho & Salimans 2022, eq. 6), with `by` (N,).

        The network itself is given guidance 1.
        """
        both = [torch.cat([a, b.expand_as(a)]) for a, b in zip(text, empty, strict=True)]
        ones = torch.ones(2 * len(x), device=x.device)
        v, v_empty = self(torch.cat([x, x]), torch.cat([t, t]), (both[0], both[1]), ones).chunk(2)
        guided: Tensor = v_empty + by.view(-1, 1, 1, 1) * (v - v_empty)
        return guided


def _float(_layer: nn.Module, _input: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.float()


def shifted(t: Real, shift: float) -> Real:
    """t in [0, 1], nearer to noise the larger the shift; 1: as it is (Esser et al. 2024, section 5.3.2)."""
    return shift * t / (1 + (shift - 1) * t)


def schedule(steps: int, shift: float, start: float = 1.0, stop: float = 0.0) -> list[float]:
    """t of each step and `stop`: evenly, but for a shift towards noise as FlowMatchEulerDiscreteScheduler has it."""
    first, last = (t / (t + shift * (1 - t)) for t in (start, stop))
    even = [first - (first - last) * k / steps for k in range(steps)]
    return [*(shifted(t, shift) for t in even), stop]


@torch.no_grad()
def follow(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, times: list[float]) -> Tensor:
    """Where Euler's steps lead from noise: x + (t' - t) v(x, t) for each t and its next t'."""
    x = noise
    for t, following in pairwise(times):
        x = x + (following - t) * velocity(x, torch.full((len(x),), t, device=x.device)).float()
    return x
