"""A bank of oriented filters in octaves: statistics of images that no trained network shares."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OCTAVES = 5
RADIUS = 3
"""Of the filters, px: three standard deviations of the Gaussian that they are derived from."""
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class Steerable(nn.Module):
    """Light and colour, edges and lines of every direction, by octaves (Freeman & Adelson 1991, table III).

    The filters are a Gaussian, its two first and its three second derivatives: what they say of any direction is a sum
    of these. Nothing in it is learned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.filters: Tensor
        self.colours: Tensor
        self.register_buffer("filters", _filters()[:, None], persistent=False)
        self.register_buffer("colours", torch.tensor(_YCBCR), persistent=False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """For each octave (N, 36, H, W), half as large each: of Y, Cb and Cr of images (N, 3, H, W) in [-1, 1], what
        each filter finds, its positive and its negative part apart."""
        x = torch.einsum("ij,njhw->nihw", self.colours, images)
        maps = []
        for octave in range(OCTAVES):
            x = F.avg_pool2d(x, 2) if octave else x
            padded = F.pad(x.flatten(0, 1)[:, None], [RADIUS] * 4, mode="reflect")
            found = F.conv2d(padded, self.filters).view(len(x), -1, *x.shape[2:])
            maps.append(torch.cat([F.relu(found), F.relu(-found)], dim=1))
        return maps


def _filters() -> Tensor:
    """(6, S, S), the sum of absolute values of each 1."""
    at = torch.arange(-RADIUS, RADIUS + 1.0)
    y, x = at[:, None], at[None, :]
    gaussian = torch.exp(-(x**2 + y**2) / 2)
    second = torch.stack([(x**2 - 1) * gaussian, x * y * gaussian, (y**2 - 1) * gaussian])
    # Cut off and sampled, a second derivative answers flat light a little: what it does is taken away.
    second = second - second.sum((1, 2), keepdim=True) / gaussian.sum() * gaussian
    filters = torch.cat([torch.stack([gaussian, x * gaussian, y * gaussian]), second])
    return filters / filters.abs().sum((1, 2), keepdim=True)
