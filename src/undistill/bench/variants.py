"""The ways to run a head's network: precision, order in memory, compiled, captured."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from undistill.base.device import has_bfloat16
from undistill.base.errors import Failure
from undistill.enhance.backends.captured import capture
from undistill.heads import Head, ResnetGenerator

PUBLISHED = "cyclegan-published"
"""The published CycleGAN generator (nine blocks, width 64), which the others are held against in eager fp32."""
SLOW_BF16 = "this CPU has no bfloat16, and would take many times as long"


def load_head(name: str) -> Head:
    """A head by its name, or the published generator, whose weights are random: its cost does not depend on them.

    Raises:
        HeadError: nothing of that name.
    """
    return ResnetGenerator(upsampling="transposed").eval() if name == PUBLISHED else Head.from_pretrained(name)


@dataclass(frozen=True)
class Variant:
    """A way to run a network.

    Args:
        bf16: by autocast; None: as `Enhancer` does, on a GPU where it is safe for the head.
    """

    name: str
    bf16: bool | None = False
    channels_last: bool = True
    mode: Literal["eager", "compiled", "graph"] = "eager"

    def precision(self, head: Head, device: torch.device) -> str:
        """float32 or bfloat16."""
        bf16 = device.type == "cuda" and head.descriptor.bf16 if self.bf16 is None else self.bf16
        return "bfloat16" if bf16 else "float32"


VARIANTS = (
    Variant("fp32", channels_last=False),
    Variant("channels-last"),
    Variant("bf16", bf16=True),
    Variant("compiled", bf16=None, mode="compiled"),
    Variant("CUDA graphs", bf16=None, mode="graph"),
)


def prepare_run(head: Head, variant: Variant, size: int, device: torch.device) -> Callable[[], object]:
    """What runs the head once on an image of `size` x `size` px, padded as the head asks; it does not wait.

    Raises:
        Failure: the variant can't run here.
        RuntimeError: torch says so.
    """
    if variant.mode == "graph" and device.type != "cuda":
        raise Failure("needs a CUDA GPU")
    bf16 = variant.precision(head, device) == "bfloat16"
    if bf16 and not has_bfloat16(device):
        raise Failure(SLOW_BF16)
    if bf16 and not head.descriptor.bf16:
        raise Failure("bfloat16 changes the head's picture")
    order = torch.channels_last if variant.channels_last else torch.contiguous_format
    network = deepcopy(head).to(device, memory_format=order)  # type: ignore[call-overload]
    side = head.round_up(max(size, head.smallest))
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).mul(2).sub(1)
    x = x.to(device).contiguous(memory_format=order)

    def run(x: Tensor, network: Callable[[Tensor], Tensor] = network) -> Tensor:
        # As TorchBackend: a graph may hold no cached casts.
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, bf16, cache_enabled=False):
            return network(x)

    if variant.mode == "compiled":
        compiled = torch.compile(network, dynamic=False)
        return lambda: run(x, compiled)
    return partial(capture(run, x) if variant.mode == "graph" else run, x)


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
