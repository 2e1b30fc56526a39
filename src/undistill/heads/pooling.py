"""Layers that look at the whole image, and how to keep them right when the image is cut into tiles.

A grid head looks at a small copy of the image (`WholeImage`); of a tile it must see the one that the tile is part of.
Instance norm needs each channel's mean and variance over the image, CBAM its mean and maximum. On a tile both would
see other values than on the whole image, and seams would show. Sampling is no way out: from a third of an image's
area, the CycleGAN generator's tiles came within 24 dB of the whole, and with all of its area but not the right
surroundings, within 42 dB. So each such layer asks a `GlobalPool`, and `known_statistics` finds the exact values first.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from undistill.heads.resampling import resampled_part, resized
from undistill.heads.tracing import node, pool_node, traced


@dataclass(frozen=True)
class Region:
    """Where a part of an image begins in it, and the image's height and width, px."""

    row: int
    column: int
    height: int
    width: int


@dataclass(frozen=True)
class Tile:
    """A part of an image as the head gets it, (1, 3, H, W); which part of it no other tile counts: top:bottom,
    left:right, px; and where it lies."""

    x: Tensor
    top: int
    bottom: int
    left: int
    right: int
    place: Region


@dataclass
class Statistics:
    """Statistics of one image that is cut into tiles, by layer. A call has its own, so threads can share a head."""

    known: dict[nn.Module, tuple[Tensor, ...]] = field(default_factory=dict)
    """What each layer has of the whole image: a pool two tensors (1, C, 1, 1), `WholeImage` one (1, 3, h, w)."""
    gathered: dict[nn.Module, "Gathered"] = field(default_factory=dict)
    """The same of the tiles so far, behind the number of their values; of pools in float64."""
    tile: Tile | None = None
    """The tile that is looked at."""


# A thread, and a coroutine, sees its own.
_STATISTICS: ContextVar[Statistics | None] = ContextVar("statistics", default=None)


def _statistics() -> Statistics | None:
    # What belongs to a call is no part of a graph, and torch.compile can't look it up.
    return None if torch.compiler.is_compiling() else _STATISTICS.get()


Second = Literal["variance", "maximum"]
Gathered = tuple[int, *tuple[Tensor, ...]]
"""Number of values, and statistics of theirs in float64."""


def pooled(x: Tensor, second: Second) -> tuple[Tensor, Tensor]:
    """The mean of (N, C, H, W) by image and channel, and the (biased) variance or the maximum."""
    mean = x.mean((2, 3), keepdim=True)
    if second == "maximum":
        return mean, x.amax((2, 3), keepdim=True)
    return mean, x.var((2, 3), unbiased=False, keepdim=True)


def gather(x: Tensor, second: Second, tile: Tile, gathered: Gathered | None) -> Gathered:
    """What was gathered before, with the tile's own part: number of values, mean, second.

    Args:
        x: what the layer gets of the tile, (1, C, h, w).
    """
    down, across = tile.x.shape[-2] // x.shape[-2], tile.x.shape[-1] // x.shape[-1]
    own = x[..., tile.top // down : tile.bottom // down, tile.left // across : tile.right // across]
    count = own.shape[-2] * own.shape[-1]
    mean, extra = (value.double() for value in pooled(own.float(), second))
    if gathered is None:
        return count, mean, extra
    before, (mean_before, extra_before) = gathered[0], gathered[1:]
    share = count / (before + count)
    if second == "maximum":
        extra = torch.maximum(extra, extra_before)
    else:  # Chan et al. 1979: the variance of a union
        extra = torch.lerp(extra_before, extra, share) + share * (1 - share) * (mean - mean_before).square()
    return before + count, torch.lerp(mean_before, mean, share), extra


def share(tile: Tile, size: Callable[[int, int], tuple[int, int]]) -> Tensor:
    """What the tile's own part adds to the whole image, brought to the size that it gives for height and width, px."""
    place = tile.place
    own = tile.x[..., tile.top : tile.bottom, tile.left : tile.right]
    whole = (place.height, place.width)
    return resampled_part(own, place.row + tile.top, place.column + tile.left, whole, size(*whole))


class GlobalPool(nn.Module):
    """Per-channel statistics of the whole image: the mean, and the (biased) variance or the maximum.

    Input (N, C, H, W). Output two tensors (N, C, 1, 1); of a tiled image (1, C, 1, 1).
    """

    def __init__(self, second: Second) -> None:
        super().__init__()
        self.second = second

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if traced() is not None:
            return pool_node(f"Mean{self.second.title()}", x)
        statistics = _statistics()
        if statistics is None:
            return pooled(x, self.second)
        if self not in statistics.known:
            assert statistics.tile is not None
            statistics.gathered[self] = gather(x, self.second, statistics.tile, statistics.gathered.get(self))
            raise _GatheredError
        mean, second = statistics.known[self]
        return mean, second


class WholeImage(nn.Module):
    """The whole image, brought to a size; of a tile that of the image that it is part of."""

    def forward(self, x: Tensor, size: Callable[[int, int], tuple[int, int]]) -> tuple[Tensor, Region]:
        """(N, C, h, w), and where x (N, C, H, W) lies in the image.

        Args:
            size: h and w of the image's height and width, px.
        """
        if (given := traced()) is not None:
            assert given.whole is not None
            assert given.place is not None
            return given.whole, Region(*given.place.unbind())  # type: ignore[arg-type]  # numbers, known when it runs
        height, width = x.shape[-2:]
        statistics = _statistics()
        if statistics is None:
            return resized(x, size(height, width)), Region(0, 0, height, width)
        tile = statistics.tile
        assert tile is not None
        if self not in statistics.known:
            count, *before = statistics.gathered.get(self, (0,))
            statistics.gathered[self] = count + 1, sum(before, share(tile, size))
            raise _GatheredError
        return statistics.known[self][0], tile.place


class InstanceNorm(nn.Module):
    """Instance normalisation without affine parameters (as in CycleGAN), aware of tiles. Shape kept."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = GlobalPool("variance")

    def forward(self, x: Tensor) -> Tensor:
        if traced() is not None:
            ones, zeros = x.new_ones(x.shape[1]), x.new_zeros(x.shape[1])
            return node("InstanceNormalization", (x, ones, zeros), x.shape, {"epsilon": 1e-5})
        if _statistics() is None:
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
) -> Iterator[Callable[[Tile], Tensor]]:
    """Gives what runs the head on a tile: inside, `GlobalPool` and `WholeImage` know the whole image of each.

    That holds for this thread alone; others may run the same head meanwhile, on the same or on other images.

    A layer's statistics depend on those of the layers before it. So all tiles are run once for each layer, each time a
    layer further: for n layers, about n / 2 times the work of the head itself. Exact where the tiles' surroundings are
    as wide as the head's reach, and little memory.

    Args:
        run: runs the head on a tile's pixels.
        tiles: makes all tiles of the image, the same each time.
    """
    statistics = Statistics()
    token = _STATISTICS.set(statistics)

    def run_tile(tile: Tile) -> Tensor:
        statistics.tile = tile
        return run(tile.x)

    try:
        layers = [module for module in head.modules() if isinstance(module, GlobalPool | WholeImage)]
        while any(layer not in statistics.known for layer in layers):
            for tile in tiles():
                with suppress(_GatheredError):
                    run_tile(tile)
            for layer, (_, *values) in statistics.gathered.items():
                statistics.known[layer] = tuple(value.float() for value in values)
            statistics.gathered.clear()
        yield run_tile
    finally:
        _STATISTICS.reset(token)
