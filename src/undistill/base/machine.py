"""How many cores and how much memory this machine has; without torch, for what must say so before it, or without it."""

import ctypes
import os
import re
from contextlib import suppress
from math import inf
from pathlib import Path

_KEPT, _MAPPED_FROM, _ARENAS = -1, -3, -8
"""malloc.h's M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX."""
_LIMIT, _LISTED = Path("/sys/fs/cgroup/memory.max"), Path("/proc/meminfo")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> float:
    """Bytes of this machine's memory, in a container those that it may take; infinite where nobody says."""
    try:
        total: float = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        total = inf
    try:
        limit = _LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total  # else it is "max"


def free_memory() -> float | None:
    """Bytes of it that may still be taken; None where nobody says."""
    free = re.search(r"^MemAvailable:\s*(\d+) kB", _LISTED.read_text(), re.MULTILINE) if _LISTED.exists() else None
    return min(memory(), int(free[1]) * 1024) if free else None


def keep_memory() -> None:
    """Have glibc keep what is freed for what is needed next: buffers of one image after another are alike.

    By itself it gives large buffers back to the system at once, and their pages, taken anew, are a good part of the
    work. Now those below 64 MB come from one heap of all threads, at whose end up to 128 MB stay.
    """
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_ARENAS, 1)
        libc.mallopt(_MAPPED_FROM, 64 * 2**20) or libc.mallopt(_MAPPED_FROM, 32 * 2**20)  # older ones take no more
        libc.mallopt(_KEPT, 128 * 2**20)


def give_memory_back() -> None:
    """Give freed memory back to the system, where glibc keeps it: between buffers of ever other sizes holes remain."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
