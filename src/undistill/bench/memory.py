"""Memory that a head needs for an image.

On a CPU, where torch keeps no count, it is the peak of a process's resident memory. So each head gets a process of its
own: python -m undistill.bench.memory HEAD SIZE,SIZE THREADS prints JSON.
"""

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from undistill.base.errors import Failure, first_line
from undistill.bench.variants import VARIANTS, load_head, prepare_run
from undistill.metrics.jackknife import Value

MB = 1e6
_PEAK_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def cuda_peak(run: Callable[[], object], weights: int, device: torch.device) -> Value:
    """MB that a call takes beside what is there before it, and the `weights` (bytes)."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return Value((torch.cuda.max_memory_allocated(device) - before + weights) / MB, n=1)


def cpu_peaks(name: str, sizes: Sequence[int]) -> dict[tuple[int, str], Value]:
    """MB by size and variant: how far a process grows beyond what torch takes by itself."""
    command = [sys.executable, "-m", "undistill.bench.memory", name, ",".join(map(str, sizes))]
    # In a session of its own: Ctrl-C reaches us alone, and we end it.
    done = subprocess.run(
        [*command, str(torch.get_num_threads())], capture_output=True, text=True, check=False, start_new_session=True
    )
    try:
        peaks = {(size, variant): peak for size, variant, peak in json.loads(done.stdout)}
        why = None
    except ValueError:
        peaks, why = {}, (done.stderr.strip().splitlines() or [f"its process ended with code {done.returncode}"])[-1]
    return {
        (size, variant.name): Value(peak / MB, n=1)
        if (peak := peaks.get((size, variant.name))) is not None
        else Value(None, why=why or _why(variant.mode))
        for size in sizes
        for variant in VARIANTS
    }


def _why(mode: str) -> str:
    return "not measured: the compiler takes more than the head" if mode == "compiled" else "can't run here"


def _peaks(name: str, sizes: Sequence[int]) -> list[tuple[int, str, int]]:
    device = torch.device("cpu")
    eager = [variant for variant in VARIANTS if variant.mode == "eager"]
    head = load_head(name)  # what `prepare_run` makes of it is a copy, and that counts
    for variant in eager:
        with suppress(Failure):
            prepare_run(head, variant, head.smallest, device)()  # starts threads, loads the libraries' code
    _reset()
    before = _resident("VmRSS")
    peaks = []
    for size in sorted(sizes):
        for variant in eager:
            with suppress(Failure, RuntimeError):
                run = prepare_run(head, variant, size, device)
                peaks.append((size, variant.name, _peak_of(run) - before))
                del run
    return peaks


def peak_above(run: Callable[[], object]) -> int:
    """Bytes by which a call makes this process's resident memory grow, at its peak.

    Raises:
        OSError: this is not Linux.
    """
    _reset()
    before = _resident("VmRSS")
    return _peak_of(run) - before


def _peak_of(run: Callable[[], object]) -> int:
    """Bytes of this process's resident memory at the peak of a call."""
    _reset()
    run()
    return _resident("VmHWM")


def _reset() -> None:
    """Give freed memory back, and let the peak count from here (proc(5): clear_refs)."""
    with suppress(OSError, AttributeError):  # glibc's alone
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    _PEAK_RESET.write_text("5")


def _resident(field: str) -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Print [[size, variant, bytes], ...]."""
    name, sizes, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    try:
        sys.stdout.write(json.dumps(_peaks(name, [int(size) for size in sizes.split(",")])))
    except OSError as error:
        sys.stderr.write(f"peaks are measured on Linux alone: {first_line(error)}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
