"""CycleGAN's training (Zhu et al. 2017), for any head as generator."""

from itertools import chain
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from undistill.losses import l1
from undistill.metrics.similarity import ssim
from undistill.training.adversarial import AdversarialLoss, build_networks, fidelity_losses
from undistill.training.method import Batch, Losses, Method, Networks, Outputs, Phase
from undistill.training.recipe import UnpairedRecipe
from undistill.training.schedule import linear_decay


class Unpaired(Method):
    """G: student to teacher, F: teacher to student; D_Y tells teacher images from G's, D_X student images from F's.

    L = L_GAN(G, D_Y) + L_GAN(F, D_X) + cycle x L_cycle(G, F) + identity x L_identity(G, F)  (Zhu et al. 2017, eq. 3,
    with least squares for L_GAN) + tone x L_tone(G, F) + chroma x L_chroma(G, F), ours.
    """

    columns = ("loss_gan", "loss_cycle", "loss_identity", "loss_tone", "loss_chroma", "loss_discriminator")
    validation_columns = ("val_loss", "val_ssim_cycle")

    def __init__(self, fabric: Fabric, recipe: UnpairedRecipe) -> None:
        self.recipe = recipe
        networks = build_networks(recipe, ("G", "F"), ("D_Y", "D_X"))
        for network in networks.values():
            # Compiled, the gradient of ESA's padding fails in channels_last, ours or Inductor's own (torch 2.13, CPU).
            layout = torch.contiguous_format if recipe.compile else torch.channels_last
            network.to(fabric.device, memory_format=layout)  # type: ignore[call-overload]
        super().__init__(fabric, recipe, networks, averaged=("G", "F"))
        self.weights = {f"loss_{name}": getattr(recipe, name) for name in ("cycle", "identity", "tone", "chroma")}
        self.gan = {"Y": AdversarialLoss(fabric, recipe, 0), "X": AdversarialLoss(fabric, recipe, 1)}
        phases = {"generators": ("G", "F"), "discriminators": ("D_Y", "D_X")}
        self.optimizers = {
            phase: torch.optim.Adam(
                chain(*(networks[name].parameters() for name in names)), lr=recipe.lr, betas=(0.5, 0.999)
            )
            for phase, names in phases.items()
        }
        self.phases = (
            Phase("generators", phases["generators"], self.backward_G),
            Phase("discriminators", phases["discriminators"], self.backward_D),
        )

    def wrap(self, network: nn.Module) -> Any:
        if self.recipe.compile:
            return self.fabric.setup_module(torch.compile(network, options={"layout_optimization": False}))  # type: ignore[arg-type]
        return self.fabric.setup_module(network)

    def schedule(self, progress: float) -> float:
        return linear_decay(progress)

    def begin(self, step: int, batches: object) -> None:
        for gan in self.gan.values():
            gan.begin(step)

    def forward(self, networks: Networks, batch: Batch) -> Outputs:
        """The fakes: G(x), (N, 3, H, W) in [-1, 1], and F(y)."""
        x, y = batch
        return networks["G"](x), networks["F"](y)

    def backward_G(self, networks: Networks, batch: Batch, fakes: Outputs) -> Losses:  # noqa: N802  # CycleGAN's name
        """The losses from which the generators' gradients are taken, as far as the recipe gives them a weight."""
        (x, y), (fake_y, fake_x) = batch, fakes
        G, F, slack = networks["G"], networks["F"], self.recipe.slack  # noqa: N806
        losses = {
            "loss_gan": self.gan["Y"].generator(networks["D_Y"], fake_y)
            + self.gan["X"].generator(networks["D_X"], fake_x),
            "loss_cycle": l1(x, F(fake_y), slack) + l1(y, G(fake_x), slack),
        }
        if self.recipe.identity:
            losses["loss_identity"] = l1(y, G(y), slack) + l1(x, F(x), slack)
        return losses | fidelity_losses(self.recipe, [(x, fake_y), (y, fake_x)])

    def backward_D(self, networks: Networks, batch: Batch, fakes: Outputs) -> Losses:  # noqa: N802  # CycleGAN's name
        """The loss from which the discriminators' gradients are taken, on fakes by way of the pools."""
        (x, y), (fake_y, fake_x) = batch, fakes
        loss = self.gan["Y"].discriminator(networks["D_Y"], y, fake_y)
        return {"loss_discriminator": loss + self.gan["X"].discriminator(networks["D_X"], x, fake_x)}

    def validation(self, batch: Batch) -> dict[str, Tensor]:
        """`val_loss`: the generators' loss; `val_ssim_cycle`: SSIM(x, F(G(x))). The paper selects by these two."""
        with self.fabric.autocast():
            fakes = self.forward(self.averaged, batch)
            loss = self.total(self.backward_G(self.averaged, batch, fakes))
            cycled = self.averaged["F"](fakes[0])
        return {"val_loss": loss, "val_ssim_cycle": ssim(batch[0], cycled)}

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: student, enhanced, and back again."""
        x = batch[0]
        with self.fabric.autocast():
            enhanced = self.averaged["G"](x)
            return [x, enhanced, self.averaged["F"](enhanced)]

    def extra_state(self) -> dict[str, Any]:
        return {"pools": {name: gan.pool.images for name, gan in self.gan.items()}}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        for name, images in state["pools"].items():
            self.gan[name].pool.images = [image.to(self.fabric.device) for image in images]
