"""Where the networks of a pair lie: on the GPU, or on the CPU until they are asked. It changes no image."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn

from undistill.pairs.load import DENOISERS

Offload = Literal["none", "model", "group"]
"""none: all stays on the GPU. model: a network is there while it runs. group: so too, and denoisers block by block."""


CUDA = 1_000_000_000
"""Bytes of a GPU that CUDA itself takes, roughly."""


def working_bytes(size: int) -> int:
    """Bytes kept free for what isn't weights: CUDA itself, and the activations of four images of `size` px.

    By `networks.drawing_cost` those are 0.5 GB for FLUX at 512 px; at 1024 px 2.1 GB for Stable Diffusion 3.5, and 4.9
    GB for FLUX.2 klein, which has the most.
    """
    return CUDA + max(2_000_000_000, 5_000_000_000 * size**2 // 1024**2)


def choose_offload(weights: Iterable[int], memory: int, working: int) -> Offload:
    """The fastest that fits.

    Args:
        weights: bytes of each network.
        memory: bytes of the GPU.
        working: bytes of it to keep free: `working_bytes`.
    """
    weights, room = list(weights), memory - working
    if sum(weights) <= room:
        return "none"
    return "model" if max(weights) <= room else "group"


class NetworkPlacement:
    """The networks of a pair, each where it has room.

    Args:
        device: where they run.
        offload: how; None: the fastest that fits into the GPU's free memory.
        working: bytes to keep free of that.
    """

    def __init__(self, device: torch.device, offload: Offload | None, working: int) -> None:
        self._device = device
        self._working = working
        self._wish = offload
        self._memory = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        self._names: dict[nn.Module, str] = {}
        self._ways: dict[nn.Module, Offload] = {}
        self._hooks: dict[nn.Module, Any] = {}

    def make_room(self, more: int) -> None:
        """Before a network of about so many bytes is loaded: bitsandbytes loads onto the GPU at once."""
        self._place([more])

    def add(self, pipeline: Any) -> None:
        """Place a pipeline's networks; those that it shares are there already."""
        for name, part in pipeline.components.items():
            if isinstance(part, nn.Module):
                self._names.setdefault(part, name)
        if hasattr(pipeline, "vae") and (self._memory is not None or self._wish is not None):
            pipeline.vae.enable_slicing()  # one image after the other
        self._place([])

    def leave(self, networks: Iterable[Any]) -> None:
        """They have run, and needn't stay on the GPU where memory is short."""
        for network in networks:
            if network in self._hooks:
                self._hooks[network].offload()

    def _place(self, expected: list[int]) -> None:
        offload = self._wish
        if offload is None:
            sizes = [*map(weight_bytes, self._names), *expected]
            offload = "none" if self._memory is None else choose_offload(sizes, self._memory, self._working)
        for network, name in self._names.items():
            way = "model" if offload == "group" and name not in DENOISERS else offload
            if self._ways.get(network) != way:
                self._move(network, way)
                self._ways[network] = way

    def _move(self, network: nn.Module, way: Offload) -> None:
        from accelerate import cpu_offload_with_hook
        from diffusers.hooks import apply_group_offloading

        if network in self._hooks:
            self._hooks.pop(network).remove()
        if way == "none":
            network.to(self._device)
            return
        network.to("cpu")
        if way == "model":
            self._hooks[network] = cpu_offload_with_hook(network, self._device)[1]
        else:  # the next block comes while one runs
            apply_group_offloading(
                network,
                onload_device=self._device,
                offload_type="block_level",
                num_blocks_per_group=1,
                use_stream=self._device.type == "cuda",
            )


def weight_bytes(network: nn.Module) -> int:
    """Bytes of a network's weights as they are stored: quantised ones are smaller than their shapes say."""
    return sum(_tensor_bytes(tensor) for tensor in (*network.parameters(), *network.buffers()))


def _tensor_bytes(tensor: torch.Tensor) -> int:
    if hasattr(tensor, "__tensor_flatten__"):  # torchao's weights are several tensors
        return sum(_tensor_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return tensor.nbytes
