"""Backends that run a head as torch does: as it is, or compiled."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor

from undistill.base.errors import Failure, first_line
from undistill.enhance.backends.captured import BySize, capture
from undistill.heads import Head
from undistill.heads.pooling import GlobalPool, Tile, WholeImage, known_statistics


class TorchBackend:
    """See `undistill.enhance.backends.Backend`. On a GPU sizes that repeat run as CUDA graphs.

    Args:
        dtype: bfloat16 by autocast.
        order: of weights and images in memory.
    """

    def __init__(
        self, head: Head, device: torch.device, dtype: torch.dtype, order: torch.memory_format = torch.channels_last
    ) -> None:
        self.order = order
        self._head, self._device, self._dtype = head, device, dtype
        head.to(memory_format=order)  # type: ignore[call-overload]

        eager = partial(self._run, head)
        self._whole = BySize(eager, capture) if device.type == "cuda" else eager

    def __call__(self, x: Tensor) -> Tensor:
        return self._whole(x)

    def tiles(self, make: Callable[[], Iterable[Tile]]) -> AbstractContextManager[Callable[[Tile], Tensor]]:
        return known_statistics(self._head, lambda x: self._run(self._head, x), make)

    def _run(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        # Autocast, not a head in bfloat16: a residual head adds to the image, which must keep its precision. A graph
        # may hold no cached casts: they would be made while it is captured, and freed before it is replayed.
        bf16 = self._dtype == torch.bfloat16
        with torch.autocast(self._device.type, torch.bfloat16, bf16, cache_enabled=False):
            z = network(x)
        return z.float()


class CompiledBackend(TorchBackend):
    """`torch.compile`: minutes for the first image of a size on a CPU, so that it pays where sizes repeat.

    What it compiles knows nothing of an image that is cut into tiles: heads that look at the whole image run these as
    torch does without it.
    """

    def __init__(
        self, head: Head, device: torch.device, dtype: torch.dtype, order: torch.memory_format = torch.channels_last
    ) -> None:
        super().__init__(head, device, dtype, order)
        self._compiled = torch.compile(head)
        self._local = not any(isinstance(module, GlobalPool | WholeImage) for module in head.modules())

    def __call__(self, x: Tensor) -> Tensor:
        try:
            return self._run(self._compiled, x)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise Failure(
                f"backend compile can't run this head here ({first_line(error)}): --backend torch can"
            ) from error

    def tiles(self, make: Callable[[], Iterable[Tile]]) -> AbstractContextManager[Callable[[Tile], Tensor]]:
        return known_statistics(self._head, self if self._local else lambda x: self._run(self._head, x), make)
