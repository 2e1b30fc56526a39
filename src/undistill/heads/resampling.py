"""Linear resampling of an image that is at hand in parts only.

What `F.interpolate(mode="bilinear", antialias=True)` does with a whole image can be done part by part: smaller, the
parts' shares add up; larger, each part is read off alone.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from undistill.heads.tracing import node, traced


def fitted_size(height: int, width: int, side: int, area: int) -> tuple[int, int]:
    """Height and width, px, in proportion: the short side `side`, or less where that would be more than `area` px^2."""
    scale = min(side / min(height, width), math.sqrt(area / (height * width)))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, H, W) brought to a size, without aliasing where that is smaller."""
    if x.shape[-2:] == size:
        return x
    smaller = size[0] < x.shape[-2] or size[1] < x.shape[-1]  # else it would be the same, and slower
    return F.interpolate(x, size=size, mode="bilinear", antialias=smaller)


def resized_like(x: Tensor, like: Tensor) -> Tensor:
    """(N, C, H, W) brought to the height and width of another, as `resized` does it."""
    height, width = like.shape[-2:]
    if traced() is not None:
        return node("Resized", (x, like), (*x.shape[:-2], height, width))
    return resized(x, (height, width))


def halved(x: Tensor) -> Tensor:
    """(N, C, H, W) at half its height and width, rounded up; the filter is (1 3 3 1) / 8."""
    size = (-(-x.shape[-2] // 2), -(-x.shape[-1] // 2))
    return resized(x, size) if traced() is None else node("Halved", (x,), (*x.shape[:-2], *size))


def resampled_part(part: Tensor, row: int, column: int, whole: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """What a part (N, C, h, w) of an image adds to the image brought to a size, (N, C, *size).

    Args:
        row: where the part begins in the image, px; column likewise.
        whole: height and width of the image, px.
    """
    height, width = part.shape[-2:]
    first, down = _taps(row, row + height, whole[0], size[0], part.device)
    left, across = _taps(column, column + width, whole[1], size[1], part.device)
    with torch.autocast(part.device.type, enabled=False):  # pixels, which must keep their precision
        some = down @ part.float() @ across.T
    below, right = size[0] - first - some.shape[-2], size[1] - left - some.shape[-1]
    return F.pad(some, (left, right, first, below))


def _taps(start: int, stop: int, length: int, short: int, device: torch.device) -> tuple[int, Tensor]:
    """Triangle filter: weights (m, stop - start) of pixels start:stop of `length` in m of `short` pixels from the first
    on that any of them reaches."""
    scale = length / short
    reach = max(scale, 1.0)
    first = max(0, math.floor((start - reach) / scale - 0.5))
    last = min(short, math.ceil((stop + reach) / scale + 0.5))
    centres = (torch.arange(first, last, device=device, dtype=torch.float64) + 0.5) * scale
    # Normalised over the whole line: at its ends the triangle is cut off.
    offsets = torch.arange(-math.ceil(reach) - 1, math.ceil(reach) + 2, device=device)
    near = centres.floor()[:, None] + offsets
    inside = (near >= 0) & (near < length)
    total = ((1 - (near + 0.5 - centres[:, None]).abs() / reach).clamp_min(0) * inside).sum(1, keepdim=True)
    pixels = torch.arange(start, stop, device=device, dtype=torch.float64) + 0.5
    weights = (1 - (pixels - centres[:, None]).abs() / reach).clamp_min(0) / total
    return first, weights.float()


def line_positions(short: int, length: int, start: int, count: int, device: torch.device) -> Tensor:
    """Where `count` lines from `start` on of an image of `length` lie in one of `short`, 0 to short - 1, in float32."""
    places = (torch.arange(count, device=device, dtype=torch.float64) + start + 0.5) * (short / length) - 0.5
    return places.clamp(0, short - 1).float()


def interpolated(x: Tensor, places: Tensor, dim: int) -> Tensor:
    """Linear interpolation of x at `places` along a dimension, as `line_positions` gives them."""
    before = places.long()
    after = (before + 1).clamp_max(x.shape[dim] - 1)
    shape = [-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)]
    return torch.lerp(x.index_select(dim, before), x.index_select(dim, after), (places - before).view(shape))


def enlarged(x: Tensor, whole: tuple[int, int], row: int, column: int, height: int, width: int) -> Tensor:
    """The part of x (N, C, h, w), enlarged to `whole`, that begins at row and column: (N, C, height, width)."""
    if x.shape[-2:] == whole:
        return x[..., row : row + height, column : column + width]
    x = interpolated(x, line_positions(x.shape[-2], whole[0], row, height, x.device), -2)
    return interpolated(x, line_positions(x.shape[-1], whole[1], column, width, x.device), -1)
