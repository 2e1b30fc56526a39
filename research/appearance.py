"""What a set of images looks like in plain figures: light, colour, and how much detail of which size."""

import numpy as np
import torch
from torch import Tensor

BANDS = ((3, 7), (7, 14), (14, 28), (28, 56), (56, 112))
"""Cycles in a crop of 224 px: coarse shapes to single pixels."""


def appearance(crops: Tensor) -> dict[str, float]:
    """Means over crops (N, 3, 224, 224) in [-1, 1].

    `luminance` and `contrast` (its standard deviation), 0 to 1; `saturation`, HSV's, 0 to 1; `low-high`: log10 of the
    share that these cycles a crop have in the spectrum of the luminance (Hann window, mean taken away).
    """
    rgb = (crops + 1) / 2
    luminance = (rgb * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)
    most, least = rgb.amax(1), rgb.amin(1)
    found = {
        "luminance": luminance.mean(),
        "contrast": luminance.std((1, 2)).mean(),
        "saturation": ((most - least) / most.clamp_min(1 / 255)).mean(),
    }
    side = crops.shape[-1]
    window = torch.hann_window(side)
    flat = (luminance - luminance.mean((1, 2), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(flat).abs().square()
    frequency = torch.fft.fftfreq(side) * side
    radius = torch.hypot(frequency[:, None], frequency)
    total = power[:, radius > 0].sum(1) + 1e-9
    for low, high in BANDS:
        share = power[:, (radius >= low) & (radius < high)].sum(1) / total
        found[f"{low}-{high}"] = torch.log10(share + 1e-9).mean()
    return {name: float(np.round(float(value), 6)) for name, value in found.items()}
