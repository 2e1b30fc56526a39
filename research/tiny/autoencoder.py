"""Training tiny's autoencoder: diffusers' AutoencoderKL, 8x smaller, 16 channels, as FLUX's."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from lightning_fabric import Fabric
from torch import Tensor

from research.tiny.recipe import AutoencoderRecipe
from undistill.base.errors import UsageError, first_line
from undistill.losses import LPIPS, l1
from undistill.training.method import Batch, Losses, Method, Networks, Outputs, Phase
from undistill.training.schedule import linear_decay, warmup


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


def take_weights(network: AutoencoderKL, folder: Path) -> None:
    """Those of another autoencoder, of any side.

    Raises:
        UsageError: the folder holds none, or one of other widths.
    """
    try:
        weights = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True).state_dict()
        network.load_state_dict(weights)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"start: {folder} holds no autoencoder of these widths ({first_line(error)})") from error


class Autoencoder(Method):
    """L1(x, x') + lpips x LPIPS(x, x') + kl x KL(q(z | x), N(0, 1))  (Rombach et al. 2022, appendix G, no GAN).

    Args:
        start: folder of an autoencoder to begin with.
    """

    columns = ("loss_l1", "loss_lpips", "loss_kl")
    validation_columns = ("val_loss", "val_l1", "val_lpips")

    def __init__(self, fabric: Fabric, recipe: AutoencoderRecipe, start: Path | None) -> None:
        self.recipe = recipe
        network = build_autoencoder(recipe)
        if start is not None:
            take_weights(network, start)
        network.to(fabric.device)  # channels last takes a quarter longer: group norm
        super().__init__(fabric, recipe, {"vae": network}, averaged=("vae",))
        self.weights = {"loss_lpips": recipe.lpips, "loss_kl": recipe.kl}
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
        """x' (N, 3, side, side), and the KL of each posterior, (N,)."""
        posterior = networks["vae"].encode(batch[0]).latent_dist
        return networks["vae"].decode(posterior.sample(self.random)).sample, posterior.kl() / posterior.mean[0].numel()

    def losses(self, networks: Networks, batch: Batch, outputs: Outputs) -> Losses:
        """L1, LPIPS and KL, scalars."""
        decoded, kl = outputs
        return {**self._distances(batch[0], decoded), "loss_kl": kl.mean()}

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
