"""What is measured on: the machine in words, and what its device can do at most, timed beside the heads."""

import os
import platform
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from undistill.base.device import processor


def machine(device: torch.device) -> dict[str, Any]:
    """What it runs on, in words."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }


CONV_CHANNELS, CONV_SIDE = 256, 64


def convolution(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """A 3 x 3 convolution of 256 to 256 channels at 64 x 64 px, channels last, and its GFLOP.

    A multiply-add counts as two, borders included, as torch.utils.flop_counter counts.
    """
    images = 2 if device.type == "cpu" else 64
    x, weight = (
        torch.randn(shape, device=device).to(dtype, memory_format=torch.channels_last)
        for shape in ((images, CONV_CHANNELS, CONV_SIDE, CONV_SIDE), (CONV_CHANNELS, CONV_CHANNELS, 3, 3))
    )
    return lambda: F.conv2d(x, weight, padding=1), 2 * images * CONV_SIDE**2 * CONV_CHANNELS**2 * 9 / 1e9


def matmul(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """A product of two square matrices, of 2048 rows on a CPU and 8192 on a GPU, and its GFLOP."""
    side = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: a @ b, 2 * side**3 / 1e9


LIMITS = {"convolution": convolution, "matmul": matmul}
