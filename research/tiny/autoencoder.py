"""Training tiny's autoencoder: diffusers' AutoencoderKL, 8x smaller, 16 channels, as FLUX's."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from research.tiny.recipe import AutoencoderRecipe
from undistill.base.errors import UsageError, first_line
from undistill.losses import LPIPS, l1
from undistill.training.method import Batch, Losses, Method, Networks, Outputs, Phase
from undistill.training.schedule import linear_decay, warmup

NARROWED_BY = 128
"""Faces that latents are narrowed by."""


def build_autoencoder(recipe: AutoencoderRecipe) -> AutoencoderKL:
    """With the weights its class starts with, and without attention in the middle: it takes images of any side."""
    levels = len(recipe.widths)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.widths,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=8,
        sample_size=recipe.faces.side,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def take_weights(network: AutoencoderKL, folder: Path, training: Dataset[Batch]) -> None:
    """Those of another autoencoder, of any side; of one with more latent channels as `narrowed` makes it.

    Args:
        training: the first of its faces, (3, side, side) in [-1, 1], say which directions of the latents matter.

    Raises:
        UsageError: the folder holds none, or one of other widths.
    """
    channels = network.config.latent_channels
    try:
        other = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
        weights = other.state_dict()
        if other.config.latent_channels > channels:
            weights = narrowed(other, channels, torch.stack([training[k][0] for k in range(NARROWED_BY)]))
        network.load_state_dict(weights)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"start: {folder} holds no autoencoder of these widths ({first_line(error)})") from error


@torch.no_grad()
def narrowed(vae: AutoencoderKL, channels: int, faces: Tensor) -> dict[str, Tensor]:
    """Its weights for so many latent channels: the first principal components of what it makes of the faces."""
    latents = vae.encode(faces).latent_dist.mean.movedim(1, -1).flatten(0, -2)
    middle = latents.mean(0)
    basis = torch.linalg.eigh(torch.cov(latents.T))[1].flip(1)[:, :channels]
    weights: dict[str, Tensor] = vae.state_dict()
    # Logarithms of variances are mixed as the variances would be: exact where they are equal.
    mix = torch.block_diag(basis.T, basis.T.square())  # type: ignore[no-untyped-call]
    first, last = "encoder.conv_out", "decoder.conv_in"
    weights[f"{first}.weight"] = torch.einsum("kj,jihw->kihw", mix, weights[f"{first}.weight"])
    weights[f"{first}.bias"] = mix @ (weights[f"{first}.bias"] - torch.cat([middle, torch.zeros_like(middle)]))
    weights[f"{last}.bias"] = weights[f"{last}.bias"] + weights[f"{last}.weight"].sum((2, 3)) @ middle
    weights[f"{last}.weight"] = torch.einsum("ojhw,jk->okhw", weights[f"{last}.weight"], basis)
    return weights


class Autoencoder(Method):
    """L1(x, x') + lpips x LPIPS(x, x') + kl x KL(q(z | x), N(0, 1))  (Rombach et al. 2022, appendix G, no GAN).

    And halved x (L1 + lpips x LPIPS) of the image of half the side and what halved latents are decoded to.

    Args:
        start: folder of an autoencoder to begin with.
        training: as `take_weights` takes it.
    """

    columns: tuple[str, ...] = ("loss_l1", "loss_lpips", "loss_kl")
    validation_columns = ("val_loss", "val_l1", "val_lpips")

    def __init__(self, fabric: Fabric, recipe: AutoencoderRecipe, start: Path | None, training: Dataset[Batch]) -> None:
        self.recipe = recipe
        if recipe.halved:
            self.columns = (*self.columns, "loss_halved")
        network = build_autoencoder(recipe)
        if start is not None:
            take_weights(network, start, training)
        network.to(fabric.device)  # channels last takes a quarter longer: group norm
        super().__init__(fabric, recipe, {"vae": network}, averaged=("vae",))
        self.weights = {"loss_lpips": recipe.lpips, "loss_kl": recipe.kl, "loss_halved": recipe.halved}
        self.wrapped["vae"].mark_forward_method("encode")
        self.wrapped["vae"].mark_forward_method("decode")
        optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=1e-4)
        self.optimizers = {"vae": optimizer}
        self.phases = (Phase("vae", ("vae",), self.losses, max_norm=1.0),)
        self.lpips = LPIPS().to(fabric.device)

    def schedule(self, progress: float) -> float:
        return linear_decay(progress, start=0.0) * warmup(progress, self.recipe.warmup)

    def begin(self, step: int, batches: object) -> None:
        self.random = torch.Generator(self.fabric.device).manual_seed(self.recipe.seed * 1_000_003 + step)

    def forward(self, networks: Networks, batch: Batch) -> Outputs:
        """x' (N, 3, side, side), the KL of each posterior, (N,), and x' of halved latents, of half the side."""
        posterior = networks["vae"].encode(batch[0]).latent_dist
        z = posterior.sample(self.random)
        decoded = networks["vae"].decode(z).sample, posterior.kl() / posterior.mean[0].numel()
        return (*decoded, networks["vae"].decode(F.avg_pool2d(z, 2)).sample) if self.recipe.halved else decoded

    def losses(self, networks: Networks, batch: Batch, outputs: Outputs) -> Losses:
        """L1, LPIPS, KL, and, where it has a weight, L1 + lpips x LPIPS of what is halved: scalars."""
        decoded, kl, *halved = outputs
        losses = {**self._distances(batch[0], decoded), "loss_kl": kl.mean()}
        for half in halved:
            losses["loss_halved"] = self.total(self._distances(F.avg_pool2d(batch[0], 2), half))
        return losses

    def _distances(self, x: Tensor, decoded: Tensor) -> Losses:
        with self.fabric.autocast():
            return {"loss_l1": l1(x, decoded.float()), "loss_lpips": self.lpips(x, decoded)}

    def validation(self, batch: Batch) -> dict[str, Tensor]:
        """L1 and LPIPS of faces decoded from the means of their latents; `val_loss`: as they are weighted."""
        losses = self._distances(batch[0], self._decoded(batch[0]))
        return {"val_loss": self.total(losses), "val_l1": losses["loss_l1"], "val_lpips": losses["loss_lpips"]}

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: faces, and what comes back."""
        return [batch[0], self._decoded(batch[0])]

    def _decoded(self, x: Tensor) -> Tensor:
        vae = self.averaged["vae"]
        with self.fabric.autocast():
            decoded: Tensor = vae.decode(vae.encode(x).latent_dist.mode()).sample
        return decoded
