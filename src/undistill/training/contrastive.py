"""CUT's training (Park et al. 2020), for any head as generator: one-sided, without a way back."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from undistill.heads import Head, PatchGAN
from undistill.losses import ImagePool, PatchNCE, pool_random
from undistill.training.adversarial import decayed, fooled, held, judge, weighted
from undistill.training.average import Average
from undistill.training.ranks import averaged
from undistill.training.recipe import ContrastiveRecipe, build_head

Batch = tuple[Tensor, ...]


class Contrastive:
    """G: student to teacher; D tells teacher images from G's; P embeds G's features of patches.

    L = L_GAN(G, D) + contrast x L_PatchNCE(x, G(x)) + identity x L_PatchNCE(y, G(y))  (Park et al. 2020, eq. 5, with
    least squares for L_GAN) + tone x L_tone(x, G(x)) + chroma x L_chroma(x, G(x)), ours.
    """

    columns: tuple[str, ...] = (
        "lr",
        "loss_gan",
        "loss_contrast",
        "loss_identity",
        "loss_tone",
        "loss_chroma",
        "loss_discriminator",
    )
    validation_columns: tuple[str, ...] = ("val_loss",)

    def __init__(self, fabric: Fabric, recipe: ContrastiveRecipe) -> None:
        self.fabric = fabric
        self.recipe = recipe
        generator = build_head(recipe.head)
        with torch.no_grad():
            side = generator.round_up(generator.smallest)
            channels = [maps.shape[1] for maps in generator.encode(torch.zeros(1, 3, side, side))]
        self.networks: dict[str, nn.Module] = {
            "G": generator,
            "D": PatchGAN(recipe.discriminator_width),
            "P": PatchNCE(channels),
        }
        for network in self.networks.values():
            network.to(fabric.device)
        self.averages = {"G": Average(generator, recipe.ema)}
        self.pool = ImagePool(recipe.pool)
        generators = nn.ModuleList([self.networks["G"], self.networks["P"]])
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "generator": torch.optim.Adam(generators.parameters(), lr=recipe.lr, betas=(0.5, 0.999)),
            "discriminator": torch.optim.Adam(self.networks["D"].parameters(), lr=recipe.lr, betas=(0.5, 0.999)),
        }
        self.G = fabric.setup_module(generator)
        self.G.mark_forward_method("encode")
        self.D, self.P = (fabric.setup_module(self.networks[name]) for name in ("D", "P"))

    def learning_rate(self, progress: float) -> float:
        return decayed(self.recipe.lr, progress)

    def step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """One step of the generator, then one of the discriminator, each over all the batches."""
        share = 1 / len(batches)
        totals = dict.fromkeys(self.columns[1:], torch.zeros((), device=self.fabric.device))
        fakes: list[Tensor] = []
        places = np.random.default_rng([self.recipe.seed, step, 60])

        self.networks["D"].requires_grad_(False)
        self.optimizers["generator"].zero_grad()
        here = (self.fabric.global_rank, self.fabric.world_size)
        for x, y in batches:
            with self.fabric.no_backward_sync(self.D):
                fake = self.G(x)
                losses = self._generator_losses(self.G, x, y, fake, places, *here)
            self.fabric.backward(weighted(losses, self.recipe) * share)
            fakes.append(fake.detach())
            for name, loss in losses.items():
                totals[name] = totals[name] + loss.detach() * share
        self.optimizers["generator"].step()
        self.averages["G"].update(self.networks["G"], step)

        self.networks["D"].requires_grad_(True)
        self.optimizers["discriminator"].zero_grad()
        random = pool_random(self.recipe.seed, step, 0)
        both = [(y, fake) for (_, y), fake in zip(batches, fakes, strict=True)]
        totals["loss_discriminator"] = judge(self.fabric, self.recipe, self.D, self.pool, both, random)
        self.optimizers["discriminator"].step()
        return totals

    def _generator_losses(
        self,
        forward: Any,
        x: Tensor,
        y: Tensor,
        fake: Tensor,
        places: np.random.Generator,
        rank: int = 0,
        ranks: int = 1,
    ) -> dict[str, Tensor]:
        """The terms of the generator's loss that the recipe gives a weight, by their columns."""
        losses = {"loss_gan": fooled(self.recipe, self.D, fake, places, rank, ranks)}
        if self.recipe.contrast:
            losses["loss_contrast"] = self._contrast(forward, x, fake, places)
        if self.recipe.identity:
            losses["loss_identity"] = self._contrast(forward, y, forward(y), places)
        return losses | held(self.recipe, [(x, fake)])

    def _contrast(self, forward: Any, x: Tensor, z: Tensor, places: np.random.Generator) -> Tensor:
        with torch.no_grad():  # patches of the input only serve as keys
            keys = forward.encode(x)
        loss: Tensor = self.P(keys, forward.encode(z), places)
        return loss

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """`val_loss`: the generator's loss."""
        forward = self.averages["G"].module
        losses = []
        for x, y in batches:
            places = np.random.default_rng(self.recipe.seed)
            with self.fabric.autocast():
                fake = forward(x)
                losses.append(float(weighted(self._generator_losses(forward, x, y, fake, places), self.recipe)))
        return averaged(self.fabric, {"val_loss": sum(losses)}, len(losses))

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: student, enhanced."""
        x = batch[0]
        with self.fabric.autocast():
            return [x, self.averages["G"].module(x)]

    def head(self) -> Head:
        """The moving average of the generator."""
        head = self.averages["G"].module
        assert isinstance(head, Head)
        return head

    def extra_state(self) -> dict[str, Any]:
        return {"pool": self.pool.images}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.pool.images = [image.to(self.fabric.device) for image in state["pool"]]
