"""The 70x70 PatchGAN discriminator (Isola et al. 2017)."""

from torch import Tensor, nn

from undistill.heads.pooling import InstanceNorm


class PatchGAN(nn.Module):
    """One logit for every 70x70 patch: (N, 3, H, W) in [-1, 1] to (N, 1, H/8 - 2, W/8 - 2), H and W from 32 up.

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
