"""The paper's paired head: a U-Net (Ronneberger et al. 2015) of residual blocks with CBAM (Woo et al. 2018)."""

import torch
from torch import Tensor, nn

from undistill.heads.head import Head
from undistill.heads.pooling import GlobalPool


class ChannelAttention(nn.Module):
    """CBAM, eq. 2: sigmoid(MLP(mean) + MLP(maximum)) over the whole image, times the input. Shape kept."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        few = max(1, channels // reduction)
        self.pool = GlobalPool("maximum")
        self.mlp = nn.Sequential(nn.Conv2d(channels, few, 1), nn.ReLU(inplace=True), nn.Conv2d(few, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean, maximum = self.pool(x)
        return x * torch.sigmoid(self.mlp(mean) + self.mlp(maximum))


class SpatialAttention(nn.Module):
    """CBAM, eq. 3: sigmoid(7x7 convolution of the channels' mean and maximum), times the input. Shape kept."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv(pooled))


class Block(nn.Module):
    """Two 3x3 convolutions, CBAM (channels, then space), and a residual connection. (N, C, H, W) to (N, out, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, out, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, padding_mode="replicate"),
            ChannelAttention(out),
            SpatialAttention(),
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.skip(x) + self.layers(x))
        return y


class UNet(Head):
    """U-Net of residual CBAM blocks with skip connections.

    The paper's drew net-like patterns in hairlines and beards. Here nothing weighs pixels of one grid differently from
    their neighbours: the way down averages 2x2, the way up interpolates bilinearly before it convolves.

    Args:
        width: channels at full size; they double with every level, up to 16 times as many.
        depth: levels of resolution, the lowest included (six: down to 1/32).
        residual: the network's output is added to its input.
    """

    smallest = 64

    def __init__(self, width: int = 32, depth: int = 6, residual: bool = False) -> None:
        super().__init__(residual)
        self.depth = depth
        self.multiple = 2 ** (depth - 1)
        channels = [min(width * 2**level, 16 * width) for level in range(depth)]
        self.down = nn.ModuleList(Block(a, b) for a, b in zip([3, *channels], channels, strict=False))
        self.up = nn.ModuleList(
            Block(below + here, here) for here, below in zip(channels[-2::-1], channels[:0:-1], strict=True)
        )
        self.shrink = nn.AvgPool2d(2)
        self.grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.last = nn.Conv2d(width, 3, 3, padding=1, padding_mode="replicate")
        self.initialise(self.last)

    def encode(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(self.shrink(x) if level else x)
            maps.append(x)
        return maps

    def body(self, x: Tensor) -> Tensor:
        *skips, x = self.encode(x)
        for block in self.up:
            x = block(torch.cat([self.grow(x), skips.pop()], 1))
        return torch.tanh(self.last(x))

    def reach(self) -> int:
        # A block sees 1 + 1 + 3 px of its level to each side. On the way up each enlargement sees one more px of the
        # level below; averaging 2x2 adds one px of the level above. At the end 3x3.
        block = 5
        down = sum(block * 2**level for level in range(self.depth)) + sum(2**level for level in range(self.depth - 1))
        up = sum(block * 2**level + 2 ** (level + 1) for level in range(self.depth - 1))
        return int(down + up + 1)
