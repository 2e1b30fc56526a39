"""CycleGAN's generator with Enhanced Spatial Attention (the paper's ESA-CycleGAN)."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from undistill.heads.resnet import Norm, ResidualBlock, ResnetGenerator


class EnhancedSpatialAttention(nn.Module):
    """Enhanced Spatial Attention (RFANet, Liu et al. 2020; section 4.2 of arXiv 2505.02255).

    1x1 channel reduction; strided convolution and pooling; convolutions on the small map; bilinear upsampling to the
    original size; 1x1; sigmoid; element-wise product with the input. Shape kept, (N, C, H, W), any H and W.

    Wang et al. 2021, the work the paper cites, spells ESA otherwise (edge features and self-attention); we follow the
    paper's steps. Unlike RFANet's, the small map is padded, so that it lies on a fixed grid of 6 pixels: then tiles cut
    along that grid see what the whole image sees, and images of any size will do.
    """

    grid = 6

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        few = max(1, channels // reduction)
        conv = partial(nn.Conv2d, padding=1, padding_mode="replicate")  # zeros would draw a frame on a flat image
        self.reduce = nn.Conv2d(channels, few, 1)
        self.skip = nn.Conv2d(few, few, 1)
        self.stride = conv(few, few, 3, stride=2)
        self.small = nn.Sequential(
            conv(few, few, 3),
            nn.ReLU(inplace=True),
            conv(few, few, 3),
            nn.ReLU(inplace=True),
            conv(few, few, 3),
        )
        self.expand = nn.Conv2d(few, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        small = self.small(F.max_pool2d(self.stride(reduced), kernel_size=7, stride=3, padding=3))
        large = F.interpolate(small, scale_factor=float(self.grid), mode="bilinear", align_corners=False)
        large = large[..., : x.shape[-2], : x.shape[-1]]
        return x * torch.sigmoid(self.expand(large + self.skip(reduced)))


class EsaGenerator(ResnetGenerator):
    """`ResnetGenerator` with Enhanced Spatial Attention at the end of every residual block. Same arguments."""

    @property
    def grid(self) -> int:
        return 4 * EnhancedSpatialAttention.grid

    def block(self, channels: int, norm: Norm) -> nn.Module:
        return ResidualBlock(channels, norm, EnhancedSpatialAttention(channels))

    def block_reach(self) -> int:
        # At stride 4: two 3x3, then the attention: stride-2 convolution 1, pooling 2 x 3, three 3x3 and the bilinear
        # enlargement at stride 6.
        return 4 * (2 + 1 + 2 * 3 + 3 * 6 + 6)
