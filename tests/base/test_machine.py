import platform
import subprocess
import sys
from pathlib import Path

import pytest

from undistill.base import machine
from undistill.base.machine import cores, free_memory, memory
from undistill.training.recipe import HeadRecipe, RecipeError, plan_head


def test_a_containers_limit_is_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_LIMIT", limit)
    whole = memory()
    assert whole > 2**20
    limit.write_text("max\n")
    assert memory() == whole
    limit.write_text(f"{2**62}\n")
    assert memory() == whole
    limit.write_text("4096\n")
    assert (memory(), free_memory()) == (4096, 4096)
    with pytest.raises(RecipeError, match="its weights alone take"):
        plan_head(HeadRecipe(architecture="ResnetGenerator"))


def test_where_nobody_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_LIMIT", tmp_path / "gone")
    monkeypatch.setattr(machine, "_LISTED", tmp_path / "gone")
    monkeypatch.delattr("os.sysconf", raising=False)
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert (memory(), free_memory()) == (float("inf"), None)
    assert cores() >= 1


HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE.exists() or "[always]" in HUGE.read_text() or "glibc" not in platform.libc_ver(),
    reason="of glibc, and of pages of 4 kB",
)
@pytest.mark.parametrize("kept", [False, True])
def test_freed_memory_is_kept_for_the_next_image(kept: bool) -> None:
    """Pages that a thread takes anew for ten buffers of 40 MB, one after another, in a process of its own."""
    code = f"""
import ctypes, resource, threading
from undistill.base.machine import keep_memory
{"keep_memory()" if kept else ""}
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def use():
    buffer = libc.malloc(40 * 2**20)
    ctypes.memset(buffer, 1, 40 * 2**20)
    libc.free(buffer)
def count():
    use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        use()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
ctypes.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
thread = threading.Thread(target=count)
thread.start()
thread.join()
"""
    faults = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert (faults < 1000) is kept  # of 10 x 10,240
