"""What discriminators are shown instead of the images: varied, so that they can't learn few images by heart."""

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, random: Generator) -> Tensor:
    """DiffAugment's translation and cutout (Zhao et al. 2020), differentiable; colour is left, heads must learn that.

    Each image is shifted by up to 1/8 of its sides, and a square of half of them is set to 0.

    Args:
        images: (N, 3, H, W), whose shape is kept.
        random: decides, so that a resumed run does the same.
    """
    height, width = images.shape[-2:]
    far = height // 8, width // 8
    wide = F.pad(images, (far[1], far[1], far[0], far[0]))
    shown = []
    for image in wide:
        top, left = (int(random.integers(2 * most + 1)) for most in far)
        shown.append(image[:, top : top + height, left : left + width])
    kept = torch.ones(len(images), 1, height, width, device=images.device, dtype=images.dtype)
    for mask in kept:
        top, left = (
            int(random.integers(-height // 4, height * 3 // 4)),
            int(random.integers(-width // 4, width * 3 // 4)),
        )
        mask[:, max(0, top) : top + height // 2, max(0, left) : left + width // 2] = 0
    return torch.stack(shown) * kept
