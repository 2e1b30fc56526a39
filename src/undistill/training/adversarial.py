"""What training against discriminators shares: `Unpaired` and `Contrastive` are made of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from undistill.heads import PatchGAN
from undistill.losses import ImagePool, adversarial, chroma, pool_random, tone
from undistill.training.method import Losses
from undistill.training.ranks import gathered, rank_slice
from undistill.training.recipe import AdversarialRecipe, build_head


class AdversarialLoss:
    """LSGAN's two losses for one discriminator, which sees fakes by way of an image pool, augmented if so asked.

    The pool is the whole job's: every rank keeps the same one.

    Args:
        side: tells the random numbers of several apart.
    """

    def __init__(self, fabric: Fabric, recipe: AdversarialRecipe, side: int = 0) -> None:
        self.fabric = fabric
        self.recipe = recipe
        self.side = side
        self.pool = ImagePool(recipe.pool)

    def begin(self, step: int) -> None:
        """Draw the random numbers of a step: a function of its place in the run alone."""
        self.random = pool_random(self.recipe.seed, step, self.side)
        self.shifts = [np.random.default_rng([self.recipe.seed, step, self.side, kind]) for kind in (70, 71, 72)]

    def generator(self, discriminator: Any, fake: Tensor) -> Tensor:
        """L_GAN(G, D): 0 where fakes are taken for real."""
        return adversarial(discriminator(self._shown(fake, 0)), real=True)

    def discriminator(self, discriminator: Any, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss, halved as in Zhu et al. 2017, section 4: it learns half as fast."""
        if self.pool.size:
            fake = rank_slice(self.fabric, self.pool.exchange(gathered(self.fabric, fake), self.random))
        judged_real = discriminator(self._shown(real, 1))
        judged_fake = discriminator(self._shown(fake, 2))
        return 0.5 * (adversarial(judged_real, real=True) + adversarial(judged_fake, real=False))

    def _shown(self, images: Tensor, kind: int) -> Tensor:
        # Validation, which has no gradients, shows images as they are: its figures hang on no place in a batch.
        if not self.recipe.augment or not torch.is_grad_enabled():
            return images
        return augment(images, self.shifts[kind], self.fabric.global_rank, self.fabric.world_size)


def fidelity_losses(recipe: AdversarialRecipe, sides: Sequence[tuple[Tensor, Tensor]]) -> Losses:
    """What holds outputs z to their inputs x, `sides` being (x, z), as far as the recipe gives it a weight."""
    losses = {}
    if recipe.tone:
        losses["loss_tone"] = torch.stack([tone(x, z, recipe.slack) for x, z in sides]).sum()
    if recipe.chroma:
        losses["loss_chroma"] = torch.stack([chroma(x, z) for x, z in sides]).sum()
    return losses


def build_networks(
    recipe: AdversarialRecipe, generators: Sequence[str], discriminators: Sequence[str]
) -> dict[str, nn.Module]:
    """New generators and discriminators by their names, with the recipe's initialisation."""
    networks: dict[str, nn.Module] = {name: build_head(recipe.head) for name in generators}
    networks |= {name: PatchGAN(recipe.discriminator_width) for name in discriminators}
    if recipe.init == "normal":
        for network in networks.values():
            initialise_normal(network)
    return networks


@torch.no_grad()
def initialise_normal(network: nn.Module) -> None:
    """CycleGAN's initialisation: weights of convolutions from N(0, 0.02), biases 0 (Zhu et al. 2017, appendix 7.1)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def augment(images: Tensor, random: Generator, rank: int = 0, ranks: int = 1) -> Tensor:
    """DiffAugment's translation and cutout (Zhao et al. 2020), differentiable; colour is left, heads must learn that.

    Each image is shifted by up to 1/8 of its sides, and a square of half of them is set to 0.

    Args:
        images: (N, 3, H, W), whose shape is kept.
        random: decides, so that a resumed run does the same.
        rank, ranks: whose share of a batch of `ranks` times N images it is; their numbers are drawn for all of them.
    """
    height, width = images.shape[-2:]
    far = height // 8, width // 8
    drawn = [
        [int(random.integers(2 * most + 1)) for most in far]
        + [int(random.integers(-side // 4, side * 3 // 4)) for side in (height, width)]
        for _ in range(ranks * len(images))  # image by image: two halves of a batch draw what the whole would
    ][rank * len(images) : (rank + 1) * len(images)]
    wide = F.pad(images, (far[1], far[1], far[0], far[0]))
    shown = []
    for image, (top, left, _, _) in zip(wide, drawn, strict=True):
        shown.append(image[:, top : top + height, left : left + width])
    kept = torch.ones(len(images), 1, height, width, device=images.device, dtype=images.dtype)
    for mask, (_, _, top, left) in zip(kept, drawn, strict=True):
        mask[:, max(0, top) : top + height // 2, max(0, left) : left + width // 2] = 0
    return torch.stack(shown) * kept
