"""Where to compute."""

import platform
from pathlib import Path

import torch

from undistill.base.errors import UsageError, first_line


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The named device; None or "auto": a GPU if there is one, else the CPU.

    Raises:
        UsageError: there is no such device here.
    """
    if name is None or name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device {name!s} can't be used here: {first_line(error)}") from error
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether torch has kernels for bfloat16 there. A CPU without AVX-512 has none, and takes many times as long."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return True  # where nobody says, it is tried
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_native_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16, by Linux's word: with them it is faster than float32."""
    listed = Path("/proc/cpuinfo")
    words = listed.read_text().split() if listed.exists() else []
    return "avx512_bf16" in words or "amx_bf16" in words


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's memory was too small, or the CPU's, for which torch has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def processor() -> str:
    """The name of the CPU."""
    listed = Path("/proc/cpuinfo")  # of Linux, where platform knows no more than the architecture
    if listed.exists():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
