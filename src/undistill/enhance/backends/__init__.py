"""Backends: what runs a head's network on images that are padded already."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import torch
from torch import Tensor

from undistill.base.device import has_native_bfloat16
from undistill.base.errors import UsageError
from undistill.heads import Head, ResnetGenerator
from undistill.heads.pooling import Tile

BackendName = Literal["torch", "contiguous", "bf16", "compile", "onnx", "openvino"]
"""What runs a head: torch, channels last; torch with channels first, which is faster on a CPU for some architectures;
torch in bfloat16, where that is safe and fast; torch.compile; ONNX Runtime; OpenVINO."""


class Backend(Protocol):
    """Runs a head. Several threads may call it at once."""

    @property
    def order(self) -> torch.memory_format:
        """Of images in memory, as it takes them without a copy."""

    def __call__(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] on the device, padded as the head asks, to the same in float32."""

    def tiles(self, make: Callable[[], Iterable[Tile]]) -> AbstractContextManager[Callable[[Tile], Tensor]]:
        """Gives what runs the head on a tile, (1, 3, H, W), as `undistill.heads.pooling.known_statistics`.

        Args:
            make: all tiles of the image, the same each time.
        """


def load_backend(name: BackendName, head: Head, device: torch.device, dtype: torch.dtype | None) -> Backend:
    """The backend of this name for a head on a device.

    Args:
        dtype: None: bfloat16 where it is safe for the head, on a GPU, and with OpenVINO on a CPU that has instructions
            for it; else float32.

    Raises:
        UsageError: it is not installed, is not for this device, or can't run this head.
        ValueError: no backend has this name.
    """
    check_backend(name, head, device, dtype)
    graphs = name in ("onnx", "openvino")
    if name == "bf16":
        dtype = torch.bfloat16
    if dtype is None:
        fast = device.type == "cuda" or (name == "openvino" and has_native_bfloat16())
        dtype = torch.bfloat16 if fast and head.descriptor.bf16 else torch.float32
    if graphs:
        from undistill.enhance.backends.graphs import GraphBackend

        return GraphBackend(name, head, dtype)
    from undistill.enhance.backends.eager import CompiledBackend, TorchBackend

    if name in ("torch", "bf16"):
        return TorchBackend(head, device, dtype)
    if name == "contiguous":
        return TorchBackend(head, device, dtype, torch.contiguous_format)
    if name == "compile":
        first = device.type == "cpu" and isinstance(head, ResnetGenerator)
        return CompiledBackend(head, device, dtype, torch.contiguous_format if first else torch.channels_last)
    raise ValueError(f"backend {name!r}: take one of torch, contiguous, bf16, compile, onnx, openvino")


def check_backend(name: BackendName, head: Head, device: torch.device, dtype: torch.dtype | None) -> None:
    """Raises:
    UsageError: it doesn't run this head here, or not in this type.
    """
    if name in ("onnx", "openvino") and device.type != "cpu":
        raise UsageError(f"backend {name} runs on the CPU: on {device} take --backend torch or compile")
    if name == "onnx" and dtype == torch.bfloat16:
        raise UsageError("backend onnx runs in float32: for bfloat16 take torch, compile or openvino")
    if name != "bf16":
        return
    if dtype == torch.float32:
        raise UsageError("backend bf16 runs in bfloat16: for float32 take torch")
    if device.type == "cpu" and not has_native_bfloat16():
        raise UsageError(
            "backend bf16 needs a CPU with instructions for bfloat16 (AVX512-BF16, AMX): take torch, and --overwrite "
            "for a folder that was begun with bf16"
        )
    if not head.descriptor.bf16:
        raise UsageError("backend bf16 would change what this head makes: take torch")
