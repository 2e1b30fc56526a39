"""What an image looks like in plain figures: light, colour, and how much detail of which size. No network."""

import torch
from torch import Tensor

from undistill.losses import lab, luminance

BANDS = ((3, 7), (7, 14), (14, 28), (28, 56), (56, 112))
"""Cycles in a crop of 224 px: coarse shapes to single pixels."""
NAMES = ("luminance", "contrast", "saturation", "a*", "b*", *(f"{low}-{high}" for low, high in BANDS))


def appearance(crops: Tensor) -> Tensor:
    """(N, 10), `NAMES`, of crops (N, 3, S, S) in [-1, 1].

    Luminance and contrast (its standard deviation), 0 to 1; saturation, HSV's, 0 to 1; CIELAB's a* (green to red) and
    b* (blue to yellow); of each band, log10 of its share in the spectrum of the luminance (Hann window, mean taken
    away).
    """
    rgb = (crops + 1) / 2
    light = luminance(rgb)[:, 0]
    most, least = rgb.amax(1), rgb.amin(1)
    colours = lab(crops).mean((2, 3))
    saturation = ((most - least) / most.clamp_min(1 / 255)).mean((1, 2))
    found = [light.mean((1, 2)), light.std((1, 2)), saturation, colours[:, 1], colours[:, 2]]
    side = crops.shape[-1]
    window = torch.hann_window(side, device=crops.device)
    flat = (light - light.mean((1, 2), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(flat).abs().square()
    frequency = torch.fft.fftfreq(side, device=crops.device) * side
    radius = torch.hypot(frequency[:, None], frequency)
    total = power[:, radius > 0].sum(1) + 1e-9
    for low, high in BANDS:
        found.append(torch.log10(power[:, (radius >= low) & (radius < high)].sum(1) / total + 1e-9))
    return torch.stack(found, dim=1)
