"""Nets and chequerboards: energy at the frequencies of a network's strides."""

from collections.abc import Sequence

import torch
from torch import Tensor

from undistill.images import to_tensor
from undistill.losses import luminance
from undistill.metrics.extraction import EvalImage, Extractor, Features

SMALLEST = 64
"""Least side, px."""
_NEIGHBOURS = (-4, -3, 3, 4)


def periodic(images: Tensor, strides: tuple[int, ...] = (2, 4, 8, 16, 32)) -> Tensor:
    """How far the spectrum stands out at the frequencies of a grid of 2, 4, ... px, in dB; shape (N,).

    A network that treats the pixels of its strides' grids differently draws patterns with these periods. The power of
    the luminance (Hann windows that overlap by half) at the multiples of 1 / stride is set against that of the
    frequencies 3 and 4 bins away along the row or the column, whichever is more, so that a straight edge does not
    count. The worst stride counts. 0 dB: nothing; 10 dB: a net that a trained eye finds; transposed convolutions with
    random weights: 30 and more. The images are rounded to 8 bits first: what that hides counts for nothing.

    Args:
        images: (N, 3, H, W) in [-1, 1], from 64 px up.
        strides: px; each needs images of 8 x stride px, those that don't fit are left out.

    Raises:
        ValueError: smaller than 64 px.
    """
    shortest = min(images.shape[-2:])
    if shortest < SMALLEST:
        raise ValueError(f"{images.shape[-2]} x {images.shape[-1]} px: a spectrum needs {SMALLEST} px")
    light = luminance(((images.float() + 1) * 127.5).round())[:, 0]
    worst = torch.zeros(len(images), device=images.device)
    sides = {stride: max(SMALLEST, 8 * stride) for stride in strides}  # 8 bins between two frequencies of the grid
    for side in sorted({side for side in sides.values() if side <= shortest}):
        power, rounding = _spectrum(light, side)
        for stride in (stride for stride in strides if sides[stride] == side):
            worst = torch.maximum(worst, _excess(power, rounding, side // stride))
    return worst


def load_periodic(device: torch.device) -> Extractor:
    """An extractor of `periodic`: (1, 1), in dB."""

    def look(images: Sequence[EvalImage]) -> list[Features]:
        return [periodic(to_tensor(image.pixels)[None].to(device)).cpu().numpy()[None] for image in images]

    return Extractor("periodic-1", look)


def _spectrum(light: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """(N, side, side) power over windows of (N, H, W), and what rounding to 8 bits adds to each."""
    windows = light.unfold(1, side, side // 2).unfold(2, side, side // 2).flatten(1, 2)
    hann = torch.hann_window(side, device=light.device)
    hann = hann[:, None] * hann
    windows = (windows - windows.mean((-2, -1), keepdim=True)) * hann
    power = torch.fft.fft2(windows).abs().square().mean(1)
    return power, hann.square().sum() / 12  # white noise, variance 1/12


def _excess(power: Tensor, rounding: Tensor, step: int) -> Tensor:
    """dB by which every `step`-th frequency stands out."""
    side = power.shape[-1]
    bins = torch.arange(0, side, step, device=power.device)
    rows, columns = (grid.flatten()[1:] for grid in torch.meshgrid(bins, bins, indexing="ij"))
    along = torch.stack([power[:, rows, (columns + n) % side] for n in _NEIGHBOURS]).mean(0)
    across = torch.stack([power[:, (rows + n) % side, columns] for n in _NEIGHBOURS]).mean(0)
    around = torch.maximum(along, across)
    ratio = (power[:, rows, columns].mean(1) + rounding) / (around.mean(1) + rounding)
    return 10 * torch.log10(ratio)
