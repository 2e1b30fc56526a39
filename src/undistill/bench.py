"""What an image costs: the ways that lead to one, timed against each other in the same run."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binom

from undistill.metrics.jackknife import Value
from undistill.metrics.results import ITSELF, Row
from undistill.progress import progressed

Steps = Mapping[str, Callable[[int], object]]


def measure_steps(steps: Steps, rounds: int) -> dict[str, list[float]]:
    """The seconds that each step took in each round, after one round to warm up.

    The steps take turns, so that whatever else the machine does meets all of them.

    Args:
        steps: each takes the number of the round, and is done when it returns: a GPU may not still be at it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in progressed("timing", range(rounds + 1)):
        for name, step in steps.items():
            start = time.perf_counter()
            step(turn)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def cost(seconds: Mapping[str, Sequence[float]], ways: Mapping[str, Sequence[str]], images: int) -> dict[str, Row]:
    """`seconds` of an image by each way, and what it has `saved` of the last way's, 0 to 1.

    Args:
        seconds: of each step, by round, as `measure_steps` gives them.
        ways: the steps that each takes; the last is what the others are held against.
        images: made in a round.
    """
    took = {
        way: [sum(turn) / images for turn in zip(*(seconds[step] for step in steps), strict=True)]
        for way, steps in ways.items()
    }
    *_, dearest = took
    rows: dict[str, Row] = {}
    for way, values in took.items():
        saved = [1 - mine / whole for mine, whole in zip(values, took[dearest], strict=True)]
        itself = Value(None, n=len(values), why=ITSELF)
        rows[way] = {"seconds": median(values), "saved": itself if way == dearest else median(saved)}
    return rows


def median(values: Sequence[float]) -> Value:
    """With its interval between two of the ordered values, at least 95% (the sign test's); none below six values."""
    n, ordered = len(values), sorted(values)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    # The k-th from each end: as often as k - 1 or fewer of n coins fall on one side, the median lies outside.
    k = int(binom.ppf(0.025, n, 0.5))
    return Value(middle, ordered[k - 1], ordered[n - k], n) if k else Value(middle, n=n)


def machine(device: torch.device) -> dict[str, Any]:
    """What it runs on, in words."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }


def _processor() -> str:
    listed = Path("/proc/cpuinfo")  # of Linux, where platform knows no more than the architecture
    if listed.exists():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
