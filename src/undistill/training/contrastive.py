"""CUT's training (Park et al. 2020), for any head as generator: one-sided, without a way back."""

from itertools import chain
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.random import Generator
from torch import Tensor

from undistill.heads import Head
from undistill.losses import PatchNCE
from undistill.training.adversarial import AdversarialLoss, build_networks, fidelity_losses
from undistill.training.method import Batch, Losses, Method, Networks, Outputs, Phase
from undistill.training.recipe import ContrastiveRecipe
from undistill.training.schedule import linear_decay


class Contrastive(Method):
    """G: student to teacher; D tells teacher images from G's; P embeds G's features of patches.

    L = L_GAN(G, D) + contrast x L_PatchNCE(x, G(x)) + identity x L_PatchNCE(y, G(y))  (Park et al. 2020, eq. 5, with
    least squares for L_GAN) + tone x L_tone(x, G(x)) + chroma x L_chroma(x, G(x)), ours.
    """

    columns = ("loss_gan", "loss_contrast", "loss_identity", "loss_tone", "loss_chroma", "loss_discriminator")

    def __init__(self, fabric: Fabric, recipe: ContrastiveRecipe) -> None:
        self.recipe = recipe
        networks = build_networks(recipe, ("G",), ("D",))
        networks["P"] = PatchNCE(_channels(networks["G"]))
        for network in networks.values():
            network.to(fabric.device)
        super().__init__(fabric, recipe, networks, averaged=("G",))
        self.wrapped["G"].mark_forward_method("encode")
        self.weights = {f"loss_{name}": getattr(recipe, name) for name in ("contrast", "identity", "tone", "chroma")}
        self.gan = AdversarialLoss(fabric, recipe)
        generator = chain(networks["G"].parameters(), networks["P"].parameters())
        self.optimizers = {
            "generator": torch.optim.Adam(generator, lr=recipe.lr, betas=(0.5, 0.999)),
            "discriminator": torch.optim.Adam(networks["D"].parameters(), lr=recipe.lr, betas=(0.5, 0.999)),
        }
        self.phases = (
            Phase("generator", ("G", "P"), self.backward_G),
            Phase("discriminator", ("D",), self.backward_D),
        )
        self.step = 0

    def schedule(self, progress: float) -> float:
        return linear_decay(progress)

    def begin(self, step: int, batches: object) -> None:
        self.gan.begin(step)
        self.step = step

    def forward(self, networks: Networks, batch: Batch) -> Outputs:
        """The fake: G(x), (N, 3, H, W) in [-1, 1]."""
        return (networks["G"](batch[0]),)

    def backward_G(self, networks: Networks, batch: Batch, fakes: Outputs) -> Losses:  # noqa: N802  # CycleGAN's name
        """The losses from which the generator's gradients are taken, as far as the recipe gives them a weight."""
        (x, y), (fake,) = batch, fakes
        # All batches of a step, and all of a validation, are compared at the same places, as one large batch would be.
        seed = self.recipe.seed
        places = np.random.default_rng([seed, self.step, 60] if torch.is_grad_enabled() else seed)
        losses = {"loss_gan": self.gan.generator(networks["D"], fake)}
        if self.recipe.contrast:
            losses["loss_contrast"] = self._contrast(networks, x, fake, places)
        if self.recipe.identity:
            losses["loss_identity"] = self._contrast(networks, y, networks["G"](y), places)
        return losses | fidelity_losses(self.recipe, [(x, fake)])

    def backward_D(self, networks: Networks, batch: Batch, fakes: Outputs) -> Losses:  # noqa: N802  # CycleGAN's name
        """The loss from which the discriminator's gradients are taken, on fakes by way of the pool."""
        return {"loss_discriminator": self.gan.discriminator(networks["D"], batch[1], fakes[0])}

    @staticmethod
    def _contrast(networks: Networks, x: Tensor, z: Tensor, places: Generator) -> Tensor:
        with torch.no_grad():  # patches of the input only serve as keys
            keys = networks["G"].encode(x)
        loss: Tensor = networks["P"](keys, networks["G"].encode(z), places)
        return loss

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: student, enhanced."""
        x = batch[0]
        with self.fabric.autocast():
            return [x, self.averaged["G"](x)]

    def extra_state(self) -> dict[str, Any]:
        return {"pool": self.gan.pool.images}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.gan.pool.images = [image.to(self.fabric.device) for image in state["pool"]]


@torch.no_grad()
def _channels(generator: Any) -> list[int]:
    assert isinstance(generator, Head)
    side = generator.round_up(generator.smallest)
    return [maps.shape[1] for maps in generator.encode(torch.zeros(1, 3, side, side))]
