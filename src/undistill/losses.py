"""The losses of the paper (arXiv 2505.02255) and of CycleGAN (Zhu et al. 2017).

Images are (N, 3, H, W) in [-1, 1], losses scalars >= 0. x is the student image, y the teacher image, z the head's
output for x.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from undistill.base.errors import Failure
from undistill.base.files import WEIGHTS, weights_file

Backbone = Literal["alex", "vgg"]
"""AlexNet, whose weights are shipped, or VGG-16."""


def gradient(x: Tensor, z: Tensor) -> Tensor:
    """GRAD(x, z): the L1 distance between the image gradients (forward differences) of input and output.

    GRAD(x, z) = mean |d_h x - d_h z| + mean |d_v x - d_v z|. It keeps the edges where the student drew them and leaves
    colour and light to the other terms.
    """
    difference = x - z
    horizontal = difference[..., :, 1:] - difference[..., :, :-1]
    vertical = difference[..., 1:, :] - difference[..., :-1, :]
    return horizontal.abs().mean() + vertical.abs().mean()


def l1(x: Tensor, z: Tensor, slack: float = 0.0) -> Tensor:
    """Mean absolute difference: cycle consistency (Zhu et al. 2017, eq. 2), identity (section 5.2), GRAD's rival.

    With slack s, differences d below it count as d^2 / 2s, those above as |d| - s / 2 (Huber). L1 pulls as hard at the
    smallest difference as at a large one, which holds a residual head where it starts: at no difference.
    """
    return F.smooth_l1_loss(z, x, beta=slack)


def tone(x: Tensor, z: Tensor, slack: float = 0.0) -> Tensor:
    """`l1` between averages over 16 x 16 px: light and colour of the output stay the input's, its texture is free.

    After the colour loss of WESPE (Ignatov et al. 2018, eq. 3), which blurs instead. It does what the identity loss is
    for without two more passes of the generators.
    """
    return l1(F.avg_pool2d(x, 16), F.avg_pool2d(z, 16), slack)


def chroma(x: Tensor, z: Tensor) -> Tensor:
    """GRAD between what is left of the images without their luminance: no coloured grain, no fringes.

    Texture may be drawn in luminance, and colour may shift where it shifts widely.
    """
    difference = z - x
    return gradient(torch.zeros_like(x), difference - luminance(difference))


def luminance(x: Tensor) -> Tensor:
    """(N, 1, H, W) of (N, 3, H, W), by BT.601's weights, in the same range."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device).view(3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def lab(x: Tensor) -> Tensor:
    """CIELAB (D65) of sRGB, (N, 3, H, W): L* from 0 to 100, a* and b*. Values outside [-1, 1] count as its ends."""
    rgb = ((x + 1) / 2).clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,njhw->nihw", _XYZ.to(x.device), linear)
    edge = 6 / 29
    roots = torch.where(xyz > edge**3, xyz.clamp_min(edge**3) ** (1 / 3), xyz / (3 * edge**2) + 4 / 29)
    first, second, third = roots.unbind(1)
    return torch.stack([116 * second - 16, 500 * (first - second), 200 * (second - third)], dim=1)


_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
) / torch.tensor([[0.95047], [1.0], [1.08883]])
"""Linear sRGB to XYZ, the white point at (1, 1, 1)."""


def neutral(x: Tensor, z: Tensor) -> Tensor:
    """How far greys move in colour: the mean over every fourth pixel each way of exp(-(C / 6)^2) |d(a*, b*)|^2 / 100.

    C is the chroma of x in CIELAB; d(a*, b*) leads from x to z. A grey wall stays grey, skin may change.
    """
    before, after = (lab(image[..., ::4, ::4])[:, 1:] for image in (x, z))
    grey = torch.exp(-before.square().sum(1) / 6**2)
    return (grey * (after - before).square().sum(1)).mean() / 100


def even(x: Tensor, z: Tensor) -> Tensor:
    """How unlike skin turns in hue from person to person: the variance over the batch, in (10 degrees)^2.

    Skin is taken to be what has a chroma of 6 or more and a hue from red to yellow in the middle half of a picture,
    every fourth pixel each way; its colour is the mean. A cast may go, but not further from one skin than from another.
    """
    height, width = x.shape[-2:]
    middle = (..., slice(height // 4, height - height // 4, 4), slice(width // 4, width - width // 4, 4))
    before, after = (lab(image[middle])[:, 1:] for image in (x, z))
    red, yellow = before.unbind(1)
    skin = (torch.hypot(red, yellow) >= 6) & (red > 0) & (yellow > 0)
    seen = skin.any(2).any(1)
    (a, b), (c, d) = ((colour * skin[:, None])[seen].sum((2, 3)).unbind(1) for colour in (before, after))
    turns = torch.rad2deg(torch.atan2(a * d - b * c, a * c + b * d)) / 10
    return turns.var() if len(turns) > 1 else 0 * z.sum()


def adversarial(logits: Tensor, *, real: bool) -> Tensor:
    """LSGAN (Mao et al. 2017, eq. 9, a = 0, b = c = 1): mean (D - 1)^2 where D should say real, mean D^2 where fake."""
    target = torch.ones_like(logits) if real else torch.zeros_like(logits)
    return F.mse_loss(logits, target)


class ImagePool:
    """The last fakes, up to 50, that a discriminator is shown beside new ones (Shrivastava et al. 2017, section 2.3).

    Once the pool is full, each new image is shown as it is with probability 1/2, else swapped for one of the pool.
    """

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def exchange(self, fakes: Tensor, random: Generator) -> Tensor:
        """Fakes to show for the new ones, of the same shape. `random` decides, so that a resumed run does the same."""
        shown = []
        for fake in fakes.detach():
            if len(self.images) < self.size:
                self.images.append(fake.clone())
                shown.append(fake)
            elif self.size and random.random() < 0.5:
                old = int(random.integers(self.size))
                shown.append(self.images[old])
                self.images[old] = fake.clone()
            else:
                shown.append(fake)
        return torch.stack(shown)


class PatchNCE(nn.Module):
    """Patchwise contrast (Park et al. 2020, eq. 3, 4): a place of the output must be known among others of the input.

    Sum over feature maps of the cross-entropy of telling, by cosine similarity over `temperature`, which of `patches`
    places of the input a place of the output comes from; its own being right. Chance is log(patches) a map.

    Args:
        channels: of the feature maps, see `Head.encode`.
        width: of the embedding; two linear layers for each map lead to it.
    """

    def __init__(self, channels: Sequence[int], width: int = 64, patches: int = 128, temperature: float = 0.07) -> None:
        super().__init__()
        self.patches = patches
        self.temperature = temperature
        self.embed = nn.ModuleList(
            nn.Sequential(nn.Linear(count, width), nn.ReLU(inplace=True), nn.Linear(width, width)) for count in channels
        )

    def forward(self, x: Sequence[Tensor], z: Sequence[Tensor], random: Generator) -> Tensor:
        """Feature maps of input and output, (N, C, H, W) each; `random` picks the places."""
        total = torch.zeros((), device=z[0].device)
        for embed, here, there in zip(self.embed, x, z, strict=True):
            count = here.shape[-2] * here.shape[-1]
            places = torch.from_numpy(random.permutation(count)[: self.patches]).to(here.device)
            key, query = (
                F.normalize(embed(maps.flatten(2)[..., places].transpose(1, 2)), dim=-1) for maps in (here, there)
            )
            logits = query @ key.detach().transpose(1, 2) / self.temperature
            own = torch.arange(len(places), device=here.device).expand(len(logits), -1)
            total = total + F.cross_entropy(logits.flatten(0, 1), own.flatten())
        return total


_CONVOLUTIONS = {
    "alex": ((3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3)),
    "vgg": (
        *((3, 64, 3), (64, 64, 3)),
        *((64, 128, 3), (128, 128, 3)),
        *((128, 256, 3), (256, 256, 3), (256, 256, 3)),
        *((256, 512, 3), (512, 512, 3), (512, 512, 3)),
        *((512, 512, 3), (512, 512, 3), (512, 512, 3)),
    ),
}
"""Channels in, channels out, side of the kernel."""
_POOLED_BEFORE = {"alex": (1, 2), "vgg": (2, 4, 7, 10)}
_MAPS_OF = {"alex": (0, 1, 2, 3, 4), "vgg": (1, 3, 6, 9, 12)}


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity, v0.1 (Zhang et al. 2018, eq. 1), on AlexNet or VGG-16.

    LPIPS(y, z) = sum over the five layers of mean over space of w . (f(y) - f(z))^2, with features f of length 1.
    0 for equal images, about 0.1 to 0.7 for different ones. Images from 32 px up. The weights are frozen.

    Raises:
        Failure: VGG-16's weights are not where `weights_file` looks for them, or are others.

    Example:
        lpips = LPIPS()
        lpips(torch.rand(1, 3, 64, 64) * 2 - 1, torch.rand(1, 3, 64, 64) * 2 - 1)
    """

    def __init__(self, backbone: Backbone = "alex") -> None:
        super().__init__()
        self.pooled_before = _POOLED_BEFORE[backbone]
        self.maps_of = _MAPS_OF[backbone]
        self.pool = 3 if backbone == "alex" else 2
        self.features = nn.ModuleList(
            nn.Conv2d(few, many, side, stride=4 if side == 11 else 1, padding=2 if side > 3 else 1)
            for few, many, side in _CONVOLUTIONS[backbone]
        )
        self.lin = nn.ModuleList(
            nn.Conv2d(_CONVOLUTIONS[backbone][place][1], 1, 1, bias=False) for place in self.maps_of
        )
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)
        weights = WEIGHTS / "lpips-alex.safetensors" if backbone == "alex" else weights_file("lpips_vgg.safetensors")
        try:
            self.load_state_dict(load_file(weights))
        except (RuntimeError, SafetensorError) as error:
            raise Failure(
                f"{weights} holds other tensors than LPIPS needs: features.0 to features.{len(self.features) - 1}, the "
                "convolutions in order, and lin.0 to lin.4"
            ) from error
        self.requires_grad_(False)

    def maps(self, image: Tensor, count: int = 5) -> list[Tensor]:
        """The network's first `count` rectified feature maps of those that LPIPS looks at."""
        x = (image - self.shift) / self.scale
        maps = []
        for place, convolution in enumerate(self.features[: self.maps_of[count - 1] + 1]):
            if place in self.pooled_before:
                x = F.max_pool2d(x, self.pool, 2)
            x = F.relu(convolution(x))
            if place in self.maps_of:
                maps.append(x)
        return maps

    def layers(self, image: Tensor) -> list[Tensor]:
        """The maps, channels normalised to length 1."""
        return self.normalised(self.maps(image))

    @staticmethod
    def normalised(maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps with channels of length 1."""
        # Not sqrt(sum(x^2)): its derivative where all channels are 0 is not a number.
        return [x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10) for x in maps]

    def distance(self, y: Sequence[Tensor], z: Sequence[Tensor]) -> Tensor:
        """The mean over the batch, from the layers of both sides."""
        return torch.stack([lin((a - b).square()).mean() for lin, a, b in zip(self.lin, y, z, strict=True)]).sum()

    def distances(self, y: Sequence[Tensor], z: Sequence[Tensor]) -> Tensor:
        """(N,), of each image of the batch."""
        layers = zip(self.lin, y, z, strict=True)
        return torch.stack([lin((a - b).square()).mean((1, 2, 3)) for lin, a, b in layers]).sum(0)

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """The mean over the batch."""
        return self.distance(self.layers(y), self.layers(z))


def pool_random(seed: int, step: int, side: int) -> Generator:
    """The random numbers of an image pool at a step: a function of its place in the run alone."""
    return np.random.default_rng([seed, step, side, 50])
