"""A head that looks at a small picture and changes colour and light in the large one, in a bilateral grid."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from undistill.heads.head import Head
from undistill.heads.pooling import Region, WholeImage
from undistill.heads.resampling import (
    enlarged,
    fitted_size,
    halved,
    interpolated,
    line_positions,
    resized,
    resized_like,
)
from undistill.heads.tracing import node, traced

_LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709, of sRGB values as they are
THUMBNAIL = 96
"""Short side of what the network looks at, px."""
CELL = 8
"""Side of a cell of the grid, px of the thumbnail."""
LARGEST = 1536 * 1536
"""Bands of larger images are taken from a smaller copy, px^2."""


class GridHead(Head):
    """Low-resolution analysis, full-resolution application.

    A small network looks at a thumbnail of 96 px and writes for every cell of 8 x 8 of its pixels (12 x 12 cells of a
    square picture)

    - for each of `bins` of luminance an affine change of colour, 3 x 4. Every pixel of the large picture reads its own
      off this bilateral grid, by place and luminance, trilinearly (HDRNet, Gharbi et al. 2017), so that edges stay;
    - for each of `bands` octaves of luminance a gain, 0 for none (as in local Laplacian filters, Paris et al. 2011, but
      linear): what a Laplacian pyramid has in the octave is multiplied by it and added, to all channels alike.

    The octaves are those of the picture at the scale of the training, short side `trained_at`, or of its own pixels
    where that is None: the same face is changed alike at 475, 1024 and 4096 px. What is finer is left as it is.

    A picture is any input: in training, where inputs are crops, a crop's own thumbnail is looked at, and the octaves
    are its pixels' (`trained_at` is set when the head is done). So it learns to look at any framing, and a recipe that
    wants whole portraits alone crops none. No statistics, so that tiles cost a thumbnail, found in one pass over them,
    and reading the grid.

    Args:
        width: channels of the network, a multiple of 4.
        bins: of luminance, two or more.
        bands: octaves, from the finest.

    Raises:
        ValueError: of the width.
    """

    multiple = 1
    smallest = 1
    rescales = True

    def __init__(self, width: int = 64, bins: int = 6, bands: int = 4) -> None:
        if width % 4:
            raise ValueError(f"width {width} is no multiple of 4")
        super().__init__(residual=True)
        self.bins, self.bands = bins, bands
        self.whole = WholeImage()
        channels = (3, width // 4, width // 2, width)
        self.down = nn.ModuleList(_layer(few, many, stride=2) for few, many in pairwise(channels))
        self.local = nn.Sequential(_layer(width, width), _layer(width, width))
        self.overall = nn.Conv2d(width, width, 1)
        self.last = nn.Conv2d(width, 12 * bins + bands, 1)
        self.initialise(self.last)

    def body(self, x: Tensor) -> Tensor:
        whole, place = self.whole(x, self.scale)
        grid, gains = self.look(whole)
        return self._colour(x, grid, place) + self._detail(whole, gains, place, x)

    def look(self, whole: Tensor) -> tuple[Tensor, Tensor]:
        """The grid (N, 3, 4, bins, h, w) and the gains (N, bands, h, w) of h x w cells, of a picture (N, 3, H, W)."""
        maps = self.encode(whole)
        features = torch.relu(self.local(maps[-1]) + self.overall(maps[-1].mean((2, 3), keepdim=True)))
        grid, gains = self.last(features).float().split([12 * self.bins, self.bands], dim=1)
        return grid.unflatten(1, (3, 4, self.bins)), gains

    def encode(self, x: Tensor) -> list[Tensor]:
        given = traced()
        x = resized(x, thumbnail_size(x.shape[-2], x.shape[-1])) if given is None else given.thumbnail
        maps = []
        for layer in self.down:
            x = layer(x)
            maps.append(x)
        return maps

    def reach(self) -> int:
        return 0  # beside the thumbnail and the bands, which are the whole image's

    def scale(self, height: int, width: int) -> tuple[int, int]:
        """The size at which the whole image is looked at."""
        return fitted_size(height, width, self.trained_at or min(height, width), LARGEST)

    def _colour(self, x: Tensor, grid: Tensor, place: Region) -> Tensor:
        """A (x, 1) of each pixel, A read off the grid where the pixel lies. Shape kept."""
        (images, _, height, width), (*_, high, wide) = x.shape, grid.shape
        rows = line_positions(high, place.height, place.row, height, x.device)
        columns = line_positions(wide, place.width, place.column, width, x.device)
        columns = columns * (2 / torch.sym_max(wide - 1, 1)) - 1
        # Row by row: of the grid, a row of pixels has a picture of column and luminance, (3 * 4, bins, w).
        of_rows = interpolated(grid.permute(0, 4, 1, 2, 3, 5).flatten(2, 3), rows, dim=1).flatten(0, 1)
        luminance = _luma(x).flatten(0, 2)
        places = torch.stack([columns.expand_as(luminance), luminance], dim=-1)[:, None]
        affine = F.grid_sample(of_rows, places, padding_mode="border", align_corners=True)
        affine = affine.view(images, height, 3, 4, width)
        by_rows = x.transpose(1, 2).unsqueeze(2)  # (N, H, 1, 3, W)
        change = torch.addcmul(affine[..., 3, :], affine[..., 0, :], by_rows[..., 0, :])
        for channel in (1, 2):
            change.addcmul_(affine[..., channel, :], by_rows[..., channel, :])
        return change.transpose(1, 2)

    def _detail(self, whole: Tensor, gains: Tensor, place: Region, x: Tensor) -> Tensor:
        """The bands' change of luminance where x (N, 3, H, W) lies, (N, 1, H, W)."""
        levels = [_luma(whole)]
        for _ in range(self.bands):
            levels.append(halved(levels[-1]))
        change = torch.zeros_like(levels[-1])
        for band in reversed(range(self.bands)):
            gain = resized_like(gains[:, band : band + 1], levels[band])
            change = resized_like(change, levels[band]) + gain * (
                levels[band] - resized_like(levels[band + 1], levels[band])
            )
        height, width = x.shape[-2:]
        if (given := traced()) is not None:
            assert given.place is not None
            return node("Enlarged", (change, x, given.place), (*change.shape[:2], height, width))
        if change.shape[-2] > place.height:
            change = resized(change, (place.height, place.width))
        return enlarged(change, (place.height, place.width), place.row, place.column, height, width)


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """Height and width, px, of what the network looks at, of an image's; multiples of CELL."""
    height, width = fitted_size(height, width, THUMBNAIL, CELL * THUMBNAIL**2)
    return -(-height // CELL) * CELL, -(-width // CELL) * CELL


def _layer(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, 3, stride=stride, padding=1, padding_mode="replicate")
    return nn.Sequential(conv, nn.ReLU(inplace=True))


def _luma(x: Tensor) -> Tensor:
    """(N, 1, H, W) of (N, 3, H, W), in the same range."""
    return x[:, :1] * _LUMA[0] + x[:, 1:2] * _LUMA[1] + x[:, 2:] * _LUMA[2]
