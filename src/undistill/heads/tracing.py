"""Heads as graphs (ONNX): what stands there for layers that look at the whole image, or that torch alone has.

A graph that is traced of a head knows neither the sizes of images nor the whole that a tile is part of. So inside of
`tracing`, some layers leave nodes of their own (`node`); `undistill.enhance.backends` makes operators or inputs of
them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

DOMAIN = "undistill"
"""Of the nodes."""


@dataclass(frozen=True)
class Traced:
    """A graph's inputs beside the picture; a head that looks at no whole image has none."""

    whole: Tensor | None = None
    """The whole image, brought to a size, (1, 3, h, w)."""
    thumbnail: Tensor | None = None
    """The same, as small as the network looks at it."""
    place: Tensor | None = None
    """Row and column of the part that is run in the image, and the image's height and width, px: (4,)."""


# A thread, and a coroutine, sees its own.
_TRACED: ContextVar[Traced | None] = ContextVar("traced", default=None)


@contextmanager
def tracing(inputs: Traced) -> Iterator[None]:
    """Inside, `torch.export` traces a graph with these inputs; a head that is merely run is run as ever."""
    token = _TRACED.set(inputs)
    try:
        yield
    finally:
        _TRACED.reset(token)


def traced() -> Traced | None:
    """The inputs of the graph that is traced just now; None: no graph is."""
    return _TRACED.get() if torch.compiler.is_exporting() else None


def node(
    name: str, inputs: Sequence[Tensor], shape: Sequence[int], attributes: Mapping[str, float] | None = None
) -> Tensor:
    """A node of the graph, of `DOMAIN` or, where it has attributes, one of ONNX's operators."""
    name = name if attributes else f"{DOMAIN}::{name}"
    return torch.onnx.ops.symbolic(name, inputs, dict(attributes or {}), dtype=inputs[0].dtype, shape=shape)


def pool_node(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """A node that pools (N, C, H, W): two outputs (N, C, 1, 1)."""
    shape = (*x.shape[:2], 1, 1)
    first, second = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{name}", (x,), dtypes=[x.dtype] * 2, shapes=[shape] * 2
    )
    return first, second
