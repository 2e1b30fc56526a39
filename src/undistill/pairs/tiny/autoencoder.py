"""Training tiny's autoencoder: diffusers' AutoencoderKL, 8x smaller, 16 channels, as FLUX's."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL
from lightning_fabric import Fabric
from torch import Tensor, nn

from undistill.losses import LPIPS, l1
from undistill.pairs.tiny.faces import SIDE
from undistill.pairs.tiny.recipe import AutoencoderRecipe
from undistill.training.average import Average

Batch = tuple[Tensor, ...]


def build_autoencoder(recipe: AutoencoderRecipe) -> AutoencoderKL:
    """With the weights its class starts with, and without attention in the middle."""
    levels = len(recipe.widths)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.widths,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=8,
        sample_size=SIDE,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


class Autoencoder:
    """L1(x, x') + lpips x LPIPS(x, x') + kl x KL(q(z | x), N(0, 1))  (Rombach et al. 2022, appendix G, no GAN)."""

    columns: tuple[str, ...] = ("lr", "loss_l1", "loss_lpips", "loss_kl")
    validation_columns: tuple[str, ...] = ("val_loss", "val_l1", "val_lpips")

    def __init__(self, fabric: Fabric, recipe: AutoencoderRecipe) -> None:
        self.fabric = fabric
        self.recipe = recipe
        network = build_autoencoder(recipe)
        network.to(fabric.device)  # channels last takes a quarter longer: group norm
        self.networks: dict[str, nn.Module] = {"vae": network}
        self.averages = {"vae": Average(network, recipe.ema)}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "vae": torch.optim.AdamW(network.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=1e-4)
        }
        self.vae = fabric.setup_module(network)
        self.vae.mark_forward_method("encode")
        self.vae.mark_forward_method("decode")
        self.lpips = LPIPS().to(fabric.device)

    def learning_rate(self, progress: float) -> float:
        return self.recipe.lr * (1 - progress)

    def step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        totals = dict.fromkeys(self.columns[1:], torch.zeros((), device=self.fabric.device))
        random = torch.Generator(self.fabric.device).manual_seed(self.recipe.seed * 1_000_003 + step)
        self.optimizers["vae"].zero_grad()
        for (x,) in batches:
            posterior = self.vae.encode(x).latent_dist
            losses = self._losses(x, self.vae.decode(posterior.sample(random)).sample)
            losses["loss_kl"] = posterior.kl().mean() / posterior.mean[0].numel()
            loss = losses["loss_l1"] + self.recipe.lpips * losses["loss_lpips"] + self.recipe.kl * losses["loss_kl"]
            self.fabric.backward(loss / len(batches))
            for name, value in losses.items():
                totals[name] = totals[name] + value.detach() / len(batches)
        self.fabric.clip_gradients(self.vae, self.optimizers["vae"], max_norm=1.0)
        self.optimizers["vae"].step()
        self.averages["vae"].update(self.networks["vae"], step)
        return totals

    def _losses(self, x: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        with self.fabric.autocast():
            return {"loss_l1": l1(x, decoded.float()), "loss_lpips": self.lpips(x, decoded)}

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """L1 and LPIPS of faces decoded from the means of their latents; `val_loss`: as they are weighted."""
        sums, count = {"loss_l1": 0.0, "loss_lpips": 0.0}, 0
        for (x,) in batches:
            for name, loss in self._losses(x, self._decoded(x)).items():
                sums[name] += float(loss) * len(x)
            count += len(x)
        l1, lpips = (value / count for value in sums.values())
        return {"val_loss": l1 + self.recipe.lpips * lpips, "val_l1": l1, "val_lpips": lpips}

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: faces, and what comes back."""
        return [batch[0], self._decoded(batch[0])]

    def _decoded(self, x: Tensor) -> Tensor:
        vae: AutoencoderKL = self.averages["vae"].module
        with self.fabric.autocast():
            decoded: Tensor = vae.decode(vae.encode(x).latent_dist.mode()).sample
        return decoded

    def extra_state(self) -> dict[str, Any]:
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        pass
