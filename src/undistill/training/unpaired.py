"""CycleGAN's training (Zhu et al. 2017), for any head as generator."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.random import Generator
from torch import Tensor, nn

from undistill.heads import Head, PatchGAN
from undistill.losses import ImagePool, l1, pool_random
from undistill.metrics.similarity import ssim
from undistill.training.adversarial import decayed, fooled, held, judge, weighted
from undistill.training.average import Average
from undistill.training.ranks import averaged
from undistill.training.recipe import UnpairedRecipe, build_head

Batch = tuple[Tensor, ...]


class Unpaired:
    """G: student to teacher, F: teacher to student; D_Y tells teacher images from G's, D_X student images from F's.

    L = L_GAN(G, D_Y) + L_GAN(F, D_X) + cycle x L_cycle(G, F) + identity x L_identity(G, F)  (Zhu et al. 2017, eq. 3,
    with least squares for L_GAN) + tone x L_tone(G, F) + chroma x L_chroma(G, F), ours.
    """

    columns: tuple[str, ...] = (
        "lr",
        "loss_gan",
        "loss_cycle",
        "loss_identity",
        "loss_tone",
        "loss_chroma",
        "loss_discriminator",
    )
    validation_columns: tuple[str, ...] = ("val_loss", "val_ssim_cycle")

    def __init__(self, fabric: Fabric, recipe: UnpairedRecipe) -> None:
        self.fabric = fabric
        self.recipe = recipe
        self.networks: dict[str, nn.Module] = {
            "G": build_head(recipe.head),
            "F": build_head(recipe.head),
            "D_Y": PatchGAN(recipe.discriminator_width),
            "D_X": PatchGAN(recipe.discriminator_width),
        }
        for network in self.networks.values():
            # Compiled, the gradient of ESA's padding fails in channels_last, ours or Inductor's own (torch 2.13, CPU).
            layout = torch.contiguous_format if recipe.compile else torch.channels_last
            network.to(fabric.device, memory_format=layout)  # type: ignore[call-overload]
        self.averages = {name: Average(self.networks[name], recipe.ema) for name in ("G", "F")}
        self.pools = {"Y": ImagePool(recipe.pool), "X": ImagePool(recipe.pool)}
        generators = nn.ModuleList([self.networks["G"], self.networks["F"]])
        discriminators = nn.ModuleList([self.networks["D_Y"], self.networks["D_X"]])
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "generators": torch.optim.Adam(generators.parameters(), lr=recipe.lr, betas=(0.5, 0.999)),
            "discriminators": torch.optim.Adam(discriminators.parameters(), lr=recipe.lr, betas=(0.5, 0.999)),
        }
        self.G, self.F, self.D_Y, self.D_X = (
            fabric.setup_module(torch.compile(network, options={"layout_optimization": False}))  # type: ignore[arg-type]
            if recipe.compile
            else fabric.setup_module(network)
            for network in self.networks.values()
        )

    def learning_rate(self, progress: float) -> float:
        return decayed(self.recipe.lr, progress)

    def step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """One step of the generators, then one of the discriminators, each over all the batches."""
        recipe = self.recipe
        share = 1 / len(batches)
        totals = dict.fromkeys(self.columns[1:], torch.zeros((), device=self.fabric.device))
        fakes: list[Batch] = []
        shifts = np.random.default_rng([recipe.seed, step, 70])

        self._learn(discriminators=False)
        self.optimizers["generators"].zero_grad()
        here = (self.fabric.global_rank, self.fabric.world_size)
        for x, y in batches:
            with self.fabric.no_backward_sync(self.D_Y), self.fabric.no_backward_sync(self.D_X):
                fake_y, fake_x = self.G(x), self.F(y)
                losses = self._generator_losses(self.G, self.F, (x, y), (fake_y, fake_x), shifts, *here)
            self.fabric.backward(weighted(losses, self.recipe) * share)
            fakes.append((fake_y.detach(), fake_x.detach()))
            for name, loss in losses.items():
                totals[name] = totals[name] + loss.detach() * share
        self.optimizers["generators"].step()
        for name, average in self.averages.items():
            average.update(self.networks[name], step)

        self._learn(discriminators=True)
        self.optimizers["discriminators"].zero_grad()
        for side, pool in enumerate(self.pools.values()):
            discriminator = (self.D_Y, self.D_X)[side]
            both = [(batch[1 - side], fake[side]) for batch, fake in zip(batches, fakes, strict=True)]
            random = pool_random(recipe.seed, step, side)
            loss = judge(self.fabric, recipe, discriminator, pool, both, random)
            totals["loss_discriminator"] = totals["loss_discriminator"] + loss
        self.optimizers["discriminators"].step()
        return totals

    def _generator_losses(
        self,
        forward: nn.Module,
        back: nn.Module,
        sides: Batch,
        fakes: Batch,
        random: Generator,
        rank: int = 0,
        ranks: int = 1,
    ) -> dict[str, Tensor]:
        """The terms of the generators' loss that the recipe gives a weight, by their columns."""
        (x, y), (fake_y, fake_x) = sides, fakes
        slack = self.recipe.slack
        losses = {
            "loss_gan": fooled(self.recipe, self.D_Y, fake_y, random, rank, ranks)
            + fooled(self.recipe, self.D_X, fake_x, random, rank, ranks),
            "loss_cycle": l1(x, back(fake_y), slack) + l1(y, forward(fake_x), slack),
        }
        if self.recipe.identity:
            losses["loss_identity"] = l1(y, forward(y), slack) + l1(x, back(x), slack)
        return losses | held(self.recipe, [(x, fake_y), (y, fake_x)])

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """`val_loss`: the generators' loss; `val_ssim_cycle`: SSIM(x, F(G(x))). The paper selects by these two."""
        losses: list[float] = []
        likeness: list[float] = []
        forward, back = self.averages["G"].module, self.averages["F"].module
        for x, y in batches:
            shifts = np.random.default_rng(self.recipe.seed)
            with self.fabric.autocast():
                fake_y, fake_x = forward(x), back(y)
                losses.append(
                    float(
                        weighted(self._generator_losses(forward, back, (x, y), (fake_y, fake_x), shifts), self.recipe)
                    )
                )
                cycled = back(fake_y)
            likeness.append(float(ssim(x, cycled)))
        return averaged(self.fabric, {"val_loss": sum(losses), "val_ssim_cycle": sum(likeness)}, len(losses))

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: student, enhanced, and back again."""
        x = batch[0]
        with self.fabric.autocast():
            enhanced = self.averages["G"].module(x)
            return [x, enhanced, self.averages["F"].module(enhanced)]

    def head(self) -> Head:
        """The moving average of the generator."""
        head = self.averages["G"].module
        assert isinstance(head, Head)
        return head

    def extra_state(self) -> dict[str, Any]:
        return {"pools": {name: pool.images for name, pool in self.pools.items()}}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        for name, images in state["pools"].items():
            self.pools[name].images = [image.to(self.fabric.device) for image in images]

    def _learn(self, *, discriminators: bool) -> None:
        # The generators' step needs no gradient of the discriminators' weights: leaving it out saves a third of it.
        for name in ("D_Y", "D_X"):
            self.networks[name].requires_grad_(discriminators)
