"""Cutting a large image into overlapping tiles, and putting the enhanced tiles together without a seam."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """A tile along one axis, px: begin:end are its own, start:stop are given to the head, first:last are used of it.

    Neighbours overlap over `ramp` px on each side of their common border, with weights that add up to 1.
    """

    begin: int
    end: int
    start: int
    stop: int
    first: int
    last: int


def spans(length: int, core: int, halo: int, ramp: int, grid: int) -> list[Span]:
    """Tiles of about `core` px, with `halo` px around them, that cover `length`.

    `halo` and every border inside are multiples of `grid`, so that each tile lies where the head's own grid has it in
    the whole image. `ramp` <= `halo` is how far beyond its core a tile is used, in the cross-fade with its neighbour.
    """
    count = -(-length // core)
    # Cores of like size: a last one that is shorter than the ramp would have nothing of its own.
    borders = [*(round(number * length / count / grid) * grid for number in range(count)), length]
    return [
        Span(
            begin=begin,
            end=end,
            start=max(0, begin - halo),
            stop=min(length, end + halo),
            first=begin - ramp if begin else 0,
            last=end + ramp if end < length else length,
        )
        for begin, end in pairwise(borders)
    ]


def weights(span: Span, length: int, ramp: int) -> Tensor:
    """Weight of each kept pixel of a tile: 1 inside, a straight line over the overlap with a neighbour."""
    weight = torch.ones(span.last - span.first)
    if ramp:
        rising = (torch.arange(2 * ramp) + 0.5) / (2 * ramp)
        if span.first > 0:
            weight[: 2 * ramp] = rising
        if span.last < length:
            weight[-2 * ramp :] = rising.flip(0)
    return weight


def mirrored(start: int, stop: int, length: int) -> Tensor:
    """Indices start:stop into an axis of `length` px that goes on as its mirror image beyond both ends, however far."""
    index = torch.arange(start, stop) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)
