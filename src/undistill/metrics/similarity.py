"""How far an image is from its own student image: SSIM, PSNR, LPIPS.

SSIM and PSNR can't tell sharp from blurred, as the paper remarks; they are here because people ask for them.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from undistill.base.errors import Failure
from undistill.images import to_tensor
from undistill.losses import LPIPS
from undistill.metrics.extraction import EvalImage, Extractor, Features

LIKENESS = ("ssim_student", "psnr_student", "lpips_student")
"""Columns of the features of `load_likeness`."""


def ssim(x: Tensor, z: Tensor) -> Tensor:
    """The mean SSIM of images z against x, (N, 3, H, W) in [-1, 1] each; z is clamped to it. 1 for equal images."""
    return ssim_of_each(x, z).mean()


def ssim_of_each(x: Tensor, z: Tensor) -> Tensor:
    """(N,), of the same."""
    # In float32: SSIM's variances are small differences of large numbers.
    likeness = structural_similarity_index_measure(z.float().clamp(-1, 1), x, data_range=(-1.0, 1.0), reduction="none")
    assert isinstance(likeness, Tensor)  # a tuple only if asked for more
    return likeness.reshape(-1)


def psnr(x: Tensor, z: Tensor) -> Tensor:
    """(N,): PSNR in dB, of the same. Equal images have none: half of the last bit of 8 stands for their difference."""
    noise = (x - z).square().mean((1, 2, 3)).clamp_min((1 / 255) ** 2 / 4)
    return 10 * torch.log10(4 / noise)


def load_likeness(device: torch.device) -> Extractor:
    """An extractor of the likeness of an image to its twin: (1, 3), `LIKENESS`."""
    lpips = LPIPS().to(device)

    @torch.inference_mode()
    def look(images: Sequence[EvalImage]) -> list[Features]:
        seen: list[Features] = [np.empty((0, 3), np.float32)] * len(images)
        alike = defaultdict(list)  # images of one size go together
        for place, image in enumerate(images):
            assert image.twin is not None
            if image.pixels.shape != image.twin.shape:
                (height, width), (high, wide) = image.pixels.shape[:2], image.twin.shape[:2]
                raise Failure(f"is {width} x {height} px, its student image {wide} x {high}")
            alike[image.pixels.shape].append(place)
        for places in alike.values():
            x = to_tensor(np.stack([images[place].twin for place in places])).to(device)  # type: ignore[misc]
            z = to_tensor(np.stack([images[place].pixels for place in places])).to(device)
            layers = lpips.layers(torch.cat([x, z]))
            x_layers, z_layers = zip(*(layer.chunk(2) for layer in layers), strict=True)
            values = torch.stack([ssim_of_each(x, z), psnr(x, z), lpips.distances(x_layers, z_layers)], dim=1)
            for place, row in zip(places, values.float().cpu().numpy(), strict=True):
                seen[place] = row[None]
        return seen

    return Extractor("likeness-1", look, compares=True)
