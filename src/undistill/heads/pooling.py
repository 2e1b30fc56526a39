"""Layers that look at the whole image, and how to keep them right when the image is cut into tiles.

Instance norm needs each channel's mean and variance over the image, CBAM its mean and maximum. On a tile both would
see other values than on the whole image, and seams would show. Sampling is no way out: from a third of an image's
area, the CycleGAN generator's tiles came within 24 dB of the whole, and with all of its area but not the right
surroundings, within 42 dB. So each such layer asks a `GlobalPool`, and `known_statistics` finds the exact values first.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Tile:
    """A part of an image as the head gets it, (1, 3, H, W), and which part of it no other tile counts: top:bottom,
    left:right, px."""

    x: Tensor
    top: int
    bottom: int
    left: int
    right: int


class GlobalPool(nn.Module):
    """Per-channel statistics of the whole image: the mean, and the (biased) variance or the maximum.

    Input (N, C, H, W). Output two tensors (N, C, 1, 1); of a tiled image (1, C, 1, 1).
    """

    def __init__(self, second: Literal["variance", "maximum"]) -> None:
        super().__init__()
        self.second = second
        self.tile: Tile | None = None  # set while the statistics of a tiled image are gathered
        self.gathered: tuple[int, Tensor, Tensor] | None = None
        self.known: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.known is not None:
            return self.known
        if self.tile is not None:
            self._gather(x, self.tile)
            raise _GatheredError
        return self._pool(x)

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean((2, 3), keepdim=True)
        if self.second == "maximum":
            return mean, x.amax((2, 3), keepdim=True)
        return mean, x.var((2, 3), unbiased=False, keepdim=True)

    def _gather(self, x: Tensor, tile: Tile) -> None:
        down, across = tile.x.shape[-2] // x.shape[-2], tile.x.shape[-1] // x.shape[-1]
        own = x[..., tile.top // down : tile.bottom // down, tile.left // across : tile.right // across]
        count = own.shape[-2] * own.shape[-1]
        mean, second = (value.double() for value in self._pool(own.float()))
        if self.gathered is None:
            self.gathered = count, mean, second
            return
        before, mean_before, second_before = self.gathered
        share = count / (before + count)
        if self.second == "maximum":
            second = torch.maximum(second, second_before)
        else:  # Chan et al. 1979: the variance of a union
            second = torch.lerp(second_before, second, share) + share * (1 - share) * (mean - mean_before).square()
        self.gathered = before + count, torch.lerp(mean_before, mean, share), second


class InstanceNorm(nn.Module):
    """Instance normalisation without affine parameters (as in CycleGAN), aware of tiles. Shape kept."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = GlobalPool("variance")

    def forward(self, x: Tensor) -> Tensor:
        if self.pool.tile is None:
            if self.training and x.device.type == "cpu" and not x.is_contiguous():
                # F.instance_norm would copy channels_last maps into the other layout and leave them there, in which
                # pooling, padding and enlarging take many times as long. Only in training: batch norm's sums are less
                # exact, by 1e-5 on maps of 128 px, and by 1e-3 on those of 1024.
                return torch.cat([F.batch_norm(image, None, None, training=True) for image in x.chunk(len(x))])
            return F.instance_norm(x)
        mean, variance = self.pool(x)
        normalised: Tensor = (x - mean) * torch.rsqrt(variance + 1e-5)
        return normalised


class _GatheredError(Exception):
    """A layer has what it wanted from a tile: what lies behind it need not run yet."""


@contextmanager
def known_statistics(
    head: nn.Module, run: Callable[[Tensor], Tensor], tiles: Callable[[], Iterable[Tile]]
) -> Iterator[None]:
    """Inside, every `GlobalPool` of the head gives the statistics of the whole image for each of its tiles.

    A layer's statistics depend on those of the layers before it. So all tiles are run once for each layer, each time a
    layer further: for n layers, about n / 2 times the work of the head itself. Exact where the tiles' surroundings are
    as wide as the head's reach, and little memory.

    Args:
        run: runs the head on a tile.
        tiles: makes all tiles of the image, the same each time.
    """
    pools = [module for module in head.modules() if isinstance(module, GlobalPool)]
    try:
        while any(pool.known is None for pool in pools):
            for tile in tiles():
                for pool in pools:
                    pool.tile = tile
                with suppress(_GatheredError):
                    run(tile.x)
            for pool in pools:
                if pool.gathered is not None:
                    _, mean, second = pool.gathered
                    pool.known, pool.gathered = (mean.float(), second.float()), None
        yield
    finally:
        for pool in pools:
            pool.tile = pool.gathered = pool.known = None
