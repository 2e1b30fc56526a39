"""CycleGAN's networks: its generator (Zhu et al. 2017; Johnson et al. 2016), and PatchGAN (Isola et al. 2017)."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from undistill.heads.head import Head
from undistill.heads.pooling import InstanceNorm

Norm = Literal["instance", "pixel"]
Upsampling = Literal["bilinear", "transposed"]


class PixelNorm(nn.Module):
    """Each pixel's channels with mean 0 and variance 1 (layer norm over channels, without affine). Shape kept.

    Like instance norm it keeps a generator's features from growing without bound in the contest with a discriminator,
    but it looks at nothing outside the pixel. The mean has to go too: without that (Karras et al. 2018) all channels
    of a layer drifted below zero together, and the ReLU behind them died.
    """

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        return (x - mean) * torch.rsqrt(variance + 1e-5)


def normalisation(norm: Norm) -> nn.Module:
    """A normalisation layer by its name.

    Raises:
        ValueError: no layer has this name.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm {norm!r}: take one of {', '.join(get_args(Norm))}")
    return InstanceNorm() if norm == "instance" else PixelNorm()


class ReflectionPad(nn.ReflectionPad2d):
    """Reflection padding in the precision of its input: on a CPU, autocast would make it float32, and back again."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(x)


class ResidualBlock(nn.Module):
    """x + attention(conv(conv(x))), both convolutions 3x3 with reflection padding. Shape kept."""

    def __init__(self, channels: int, norm: Norm, attention: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3),
            normalisation(norm),
            nn.ReLU(inplace=True),
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3),
            normalisation(norm),
            attention or nn.Identity(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


def upsample(channels: int, norm: Norm, upsampling: Upsampling) -> list[nn.Module]:
    """Layers that halve the channels and double the size.

    A transposed convolution weighs even and odd pixels differently and so can draw a chequerboard; bilinear
    interpolation before a convolution cannot (Odena et al. 2016).
    """
    grow: list[nn.Module]
    if upsampling not in get_args(Upsampling):
        raise ValueError(f"upsampling {upsampling!r}: take one of {', '.join(get_args(Upsampling))}")
    if upsampling == "transposed":
        grow = [nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)]
    else:
        grow = [
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            ReflectionPad(1),
            nn.Conv2d(channels, channels // 2, 3),
        ]
    return [*grow, normalisation(norm), nn.ReLU(inplace=True)]


class ResnetGenerator(Head):
    """7x7 stem, two stride-2 convolutions, residual blocks, two upsamplings, 7x7 to RGB, tanh.

    The stride-2 convolutions pad by repeating the border: zeros, as published, drew a light line along it.
    With `upsampling="transposed"` it is the published network: 11,378,179 parameters, 396 GFLOP at 512 px. The default
    needs 454 GFLOP, since its convolutions run after the enlargement.

    Args:
        width: channels of the stem; the trunk has four times as many.
        blocks: residual blocks in the trunk.
        upsampling: "bilinear" (can't chequerboard) or "transposed" (as published).
        norm: "instance" (as published) or "pixel", with which the output at a pixel depends on its receptive field
            alone, so that crops, tiles and whole images agree.
        residual: the network's output is added to its input.
    """

    multiple = 4
    smallest = 16

    def __init__(
        self,
        width: int = 64,
        blocks: int = 9,
        upsampling: Upsampling = "bilinear",
        norm: Norm = "instance",
        residual: bool = False,
    ) -> None:
        super().__init__(residual)
        self.blocks = blocks
        self.layers = nn.Sequential(
            ReflectionPad(3),
            nn.Conv2d(3, width, 7),
            normalisation(norm),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, padding_mode="replicate"),
            normalisation(norm),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, padding_mode="replicate"),
            normalisation(norm),
            nn.ReLU(inplace=True),
            *(self.block(4 * width, norm) for _ in range(blocks)),
            *upsample(4 * width, norm, upsampling),
            *upsample(2 * width, norm, upsampling),
            ReflectionPad(3),
            nn.Conv2d(width, 3, 7),
            nn.Tanh(),
        )
        self.initialise(self.layers[-2])

    def block(self, channels: int, norm: Norm) -> nn.Module:
        """A block of the trunk, (N, channels, H, W) to the same."""
        return ResidualBlock(channels, norm)

    def body(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y

    def encode(self, x: Tensor) -> list[Tensor]:
        first_block = 10
        ends = (3, 6, first_block - 1, first_block, first_block + self.blocks // 2)  # stem, halvings, two blocks
        maps = []
        for place, layer in enumerate(list(self.layers)[: ends[-1] + 1]):
            x = layer(x)
            if place in ends:
                maps.append(x)
        return maps

    def reach(self) -> int:
        # 7x7, two 3x3 on the way down, two 3x3 a block at stride 4, and going up: bilinear reach and 3x3 at strides
        # 4 and 2, then 7x7. Written out in pixels of the input.
        return 3 + 1 + 2 + self.blocks * self.block_reach() + (4 + 2) + (2 + 1) + 3

    def block_reach(self) -> int:
        """How much further a block sees to each side, px of the input."""
        return 2 * 4


class PatchGAN(nn.Module):
    """The discriminator: one logit for every 70x70 patch.

    (N, 3, H, W) in [-1, 1] to (N, 1, H/8 - 2, W/8 - 2), H and W from 32 up.

    At width 64 it has 2,764,737 parameters.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for channels, stride in ((width, 2), (2 * width, 2), (4 * width, 1)):
            layers += [
                nn.Conv2d(channels, 2 * channels, 4, stride=stride, padding=1),
                InstanceNorm(),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits
