"""What discriminators are shown instead of the images: varied, so that they can't learn few images by heart."""

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F


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
