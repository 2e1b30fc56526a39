"""Which backend is the fastest for a head here: timed once on this machine, and kept."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

import torch

from undistill.base.device import has_native_bfloat16, processor
from undistill.base.errors import UsageError, first_line
from undistill.base.progress import show_words
from undistill.base.threads import spread
from undistill.enhance.backends import BackendName, check_backend, load_backend
from undistill.enhance.backends.graph import head_key
from undistill.heads import Head, UNet
from undistill.metrics.cache import keep, kept, key_of, room

FORMAT = 4
SIZE = 512
"""Of the image that is timed, px."""
GAIN = 1.1
"""How many times as fast as torch another must be to be taken: less may be noise."""
MANY = 200
"""Images from which on it pays to time backends: to trace a graph and to try all takes some 20 s."""
ROUNDS, BUDGET_S = 7, 4.0
"""No round begins after so many seconds, if there were three."""
SETTLES_S = 0.5
"""A backend that takes less for an image runs one that isn't timed before each that is."""

# torch.compile is left out: its first image of a size takes a minute and more on a CPU.
TIMED: tuple[BackendName, ...] = ("torch", "contiguous", "bf16", "onnx", "openvino")


def fastest(head: Head, device: torch.device, images: int = MANY, dtype: torch.dtype | None = None) -> BackendName:
    """The fastest backend that is installed, never a slower one than torch; by a table that is kept for this head and
    machine. On a GPU it is torch: nothing else has been measured there.

    Args:
        images: that wait for it; for less than MANY nothing is timed: what is not known goes by the architecture.
        dtype: that it must run in, if not as it likes.
    """
    if device.type != "cpu":
        return "torch"
    known = seconds_by_backend(head, device, measure=images >= MANY)
    if not known:
        return "torch" if isinstance(head, UNet) else "contiguous"  # on CPUs channels last slow all others
    return pick({name: seconds for name, seconds in known.items() if _may_run(name, head, device, dtype)})


def _may_run(name: str, head: Head, device: torch.device, dtype: torch.dtype | None) -> bool:
    try:
        check_backend(name, head, device, dtype)  # type: ignore[arg-type]  # of TIMED
    except UsageError:
        return False
    return True


def pick(seconds: Mapping[str, float]) -> BackendName:
    """The fastest by seconds of an image, if it is that by more than noise."""
    name = min(seconds, key=lambda each: seconds[each])
    return name if seconds["torch"] > GAIN * seconds[name] else "torch"  # type: ignore[return-value]  # of TIMED


def seconds_by_backend(head: Head, device: torch.device, measure: bool = True) -> dict[str, float]:
    """Seconds of an image of SIZE px on one thread, by backend that is installed and can run the head.

    One thread: where many images wait, they run side by side, each on one. What was measured with other versions or on
    another CPU is measured anew.

    Args:
        measure: what is not known; else nothing comes back.
    """
    versions = {package: _version(package) for package in ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")}
    where = (processor(), has_native_bfloat16(), device)
    with room(key_of("backends", FORMAT, SIZE, head_key(head), *where, versions)) as folder:
        file = folder / "seconds.kept"
        known = kept(file)
        if known is not None:
            rows: dict[str, float] = json.loads(known)
            return rows
        if not measure:
            return {}
        show_words("timing backends, once on this machine")
        (measured,) = spread(lambda size: time_backends(head, device, size), [SIZE], threads=1)
        rows = {name: median(seconds) for name, seconds in measured.items() if not isinstance(seconds, str)}
        with suppress(OSError):
            keep(file, json.dumps(rows).encode())
    return rows


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def time_backends(
    head: Head,
    device: torch.device,
    size: int,
    names: Sequence[BackendName] = TIMED,
    rounds: int = ROUNDS,
    budget: float = BUDGET_S,
) -> dict[str, list[float] | str]:
    """Seconds of an image by backend and round, by turns, so that whatever else the machine does meets all of them; or
    why a backend can't run the head here.

    What is timed is an image after another of the same backend, as in a folder: right after another backend, whose
    threads still spin, torch took twice as long on two threads.

    Args:
        size: of the image, px, before it is padded as the head asks.
    """
    side = head.round_up(max(size, head.smallest))
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).to(device)
    found: dict[str, list[float] | str] = {}
    steps: dict[str, Callable[[], Any]] = {}
    with torch.no_grad():
        for name in names:
            try:
                steps[name] = _step(name, head, device, x)
                steps[name]()  # chooses kernels, and starts threads
                found[name] = []
            except Exception as error:  # not installed, or a broken library: whatever it is, another may do
                if name == "torch":
                    raise
                found[name] = first_line(error)
                steps.pop(name, None)
        begin = time.perf_counter()
        for turn in range(rounds):
            if turn >= 3 and time.perf_counter() - begin > budget:
                break
            for timed, step in steps.items():
                taken = found[timed]
                assert isinstance(taken, list)
                seconds = _seconds(step)
                taken.append(_seconds(step) if seconds < SETTLES_S else seconds)
    return found


def _seconds(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _step(name: BackendName, head: Head, device: torch.device, x: torch.Tensor) -> Callable[[], Any]:
    backend = load_backend(name, deepcopy(head), device, None)  # each has its order of weights in memory
    own = x.contiguous(memory_format=backend.order)
    return lambda: backend(own)
