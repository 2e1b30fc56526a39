from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from research.tiny.autoencoder import build_autoencoder, narrowed
from research.tiny.recipe import AutoencoderRecipe, read_stage
from torch import Tensor

RECIPES = Path(__file__).parents[3] / "research" / "tiny" / "recipes"


@pytest.fixture
def vae() -> AutoencoderKL:
    recipe = read_stage(RECIPES / "autoencoder.yaml")
    assert isinstance(recipe, AutoencoderRecipe)
    torch.manual_seed(0)
    return build_autoencoder(recipe).eval()


def narrow(vae: AutoencoderKL, channels: int, faces: Tensor) -> AutoencoderKL:
    narrower: AutoencoderKL = AutoencoderKL.from_config({**vae.config, "latent_channels": channels}).eval()
    narrower.load_state_dict(narrowed(vae, channels, faces))
    return narrower


@torch.no_grad()
def test_the_principal_components_of_latents_are_kept(vae: AutoencoderKL) -> None:
    faces = 2 * torch.rand(4, 3, 64, 64) - 1
    latents = vae.encode(faces).latent_dist.mean
    errors = []
    for channels in (2, 8, 16):
        narrower = narrow(vae, channels, faces)
        kept = narrower.encode(faces).latent_dist.mean
        assert kept.shape == (4, channels, 8, 8)
        # Uncorrelated, the first the largest, and as much of the whole variance as so many can have.
        spread = torch.cov(kept.movedim(1, -1).flatten(0, -2).T)
        largest = torch.linalg.eigvalsh(torch.cov(latents.movedim(1, -1).flatten(0, -2).T)).flip(0)[:channels]
        assert torch.allclose(spread, torch.diag(largest), atol=1e-4 * float(largest[0]))
        # Away from the border, where convolutions see zeros beside the latents.
        decoded, whole = narrower.decoder.conv_in(kept), vae.decoder.conv_in(latents)
        errors.append(float((decoded - whole)[..., 1:-1, 1:-1].square().mean()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-8


@torch.no_grad()
def test_noise_of_latents_is_kept_where_it_is_even(vae: AutoencoderKL) -> None:
    vae.encoder.conv_out.weight[16:] = 0
    vae.encoder.conv_out.bias[16:] = -3.0
    faces = 2 * torch.rand(2, 3, 64, 64) - 1
    narrower = narrow(vae, 8, faces)
    assert torch.allclose(narrower.encode(faces).latent_dist.logvar, torch.tensor(-3.0), atol=1e-4)
