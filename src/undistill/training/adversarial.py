"""What training against discriminators shares: `Unpaired` and `Contrastive` are made of it."""

from collections.abc import Mapping, Sequence

import torch
from lightning_fabric import Fabric
from numpy.random import Generator
from torch import Tensor, nn

from undistill.losses import ImagePool, adversarial, chroma, tone
from undistill.training.augment import augment
from undistill.training.ranks import gathered, own
from undistill.training.recipe import Adversarial


def decayed(lr: float, progress: float) -> float:
    """Constant in the first half, then falling linearly to 0 (Zhu et al. 2017). `progress` in [0, 1)."""
    return lr * min(1.0, 2 * (1 - progress))


def risen(progress: float, warmup: float) -> float:
    """Rising linearly to 1 in the first `warmup` of the run: Adam's first steps would throw a head far off."""
    return min(1.0, (progress + 1e-3) / warmup) if warmup else 1.0


def weighted(losses: Mapping[str, Tensor], recipe: Adversarial) -> Tensor:
    """The sum of the losses, by their columns, each with the weight of that name in the recipe; L_GAN counts once."""
    return torch.stack([getattr(recipe, name.removeprefix("loss_"), 1.0) * loss for name, loss in losses.items()]).sum()


def held(recipe: Adversarial, sides: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """What holds outputs to their inputs, as far as the recipe gives it a weight, by the losses' columns."""
    losses = {}
    if recipe.tone:
        losses["loss_tone"] = torch.stack([tone(x, z, recipe.slack) for x, z in sides]).sum()
    if recipe.chroma:
        losses["loss_chroma"] = torch.stack([chroma(x, z) for x, z in sides]).sum()
    return losses


def fooled(
    recipe: Adversarial, discriminator: nn.Module, fake: Tensor, random: Generator, rank: int = 0, ranks: int = 1
) -> Tensor:
    """The generator's L_GAN; see `augment` for `rank`."""
    return adversarial(discriminator(augment(fake, random, rank, ranks) if recipe.augment else fake), real=True)


def judge(
    fabric: Fabric,
    recipe: Adversarial,
    discriminator: nn.Module,
    pool: ImagePool,
    sides: Sequence[tuple[Tensor, Tensor]],
    random: Generator,
) -> Tensor:
    """Gradients for a discriminator from batches of real images and fakes, these by way of the pool; its mean loss.

    The pool is the whole job's: every rank keeps the same one.
    """
    share = 1 / len(sides)
    total = torch.zeros((), device=fabric.device)
    for real, fake in sides:
        shown = [real, own(fabric, pool.exchange(gathered(fabric, fake), random))]
        if recipe.augment:
            shown = [augment(images, random, fabric.global_rank, fabric.world_size) for images in shown]
        judged = [discriminator(images) for images in shown]
        loss = 0.5 * (adversarial(judged[0], real=True) + adversarial(judged[1], real=False))
        fabric.backward(loss * share)
        total = total + loss.detach() * share
    return total
