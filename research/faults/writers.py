"""Bad moments for every command that writes: the same command then ends with the bytes of one that was left alone.

Each try is a child of this process, forked when all is imported, so that it costs a fraction of a second. It dies by
kill -9 after a random time, or meets a full disk, a folder that can't be written, or an error of the disk.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EIO
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.random import Generator

from research.faults.inputs import PATIENCE_S, Hang, limited, run_command, wrong_words
from undistill.base.files import PART

OUT = "new"
_DRAW = ("--pair", "tiny", "--device", "cpu")
_TRAIN = ("--student", "student", "--teacher", "teacher", "--device", "cpu")
WRITERS: dict[str, tuple[str, ...]] = {
    "enhance": ("enhance", "images", "student", "--head", "head", "--device", "cpu", "-o", OUT),
    "shards": ("enhance", "pairs", "--head", "head", "--device", "cpu", "-o", OUT),
    "prompts": ("prompts", "--names", "names.txt", "--count", "3", "-o", f"{OUT}/prompts.jsonl"),
    "generate": ("generate", "A portrait", "A face", *_DRAW, "--raw", "-o", OUT),
    "pairs": ("pairs", "create", *_DRAW, "--prompts", "prompts.jsonl", "--shard-size", "2", "--batch", "1", "-o", OUT),
    "train": ("train", "recipe.yaml", *_TRAIN, "-o", OUT),
    "sweep": ("sweep", "run", "grids.yaml", "--data", "pairs", "--device", "cpu", "-o", OUT),
    "judge": ("judge", "a=student", "b=teacher", "--export", f"{OUT}/page.html"),
}
SMALL_DISKS = os.environ.get("SMALL_DISKS") == "1"
"""Mount small disks, and some that can't be written, as root can: what is tried is then nearest to the truth."""
FAULTS = ("kill", "full", "closed", "error")
_TIMES = ("events", "timings.csv", "sweep.db", "report.json")
"""Files that hold times, which are never the same twice."""


def contents(out: Path) -> dict[str, str]:
    """The hash of each file, by its path."""
    files = (path for path in out.rglob("*") if path.is_file() and not path.name.startswith(_TIMES))
    return {path.relative_to(out).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def try_writer(
    writer: str, fault: str, whole: Path, copy: Path, expected: tuple[dict[str, str], float], seed: int
) -> tuple[bool, str | None]:
    """One try; returns whether the fault was met, and what is wrong with how it ended, or None.

    Args:
        writer, fault: of `WRITERS` and `FAULTS`.
        whole: the corpus; `copy`: where a copy of it is made.
        expected: contents and seconds of an undisturbed run.
    """
    random = np.random.default_rng(seed)
    fresh(whole, copy)
    command = WRITERS[writer]
    if fault == "kill":
        child = start(command, copy, lambda: None)
        sleep(random.uniform(0, expected[1]))
        os.kill(child, signal.SIGKILL)
        met = os.waitpid(child, 0)[1] == signal.SIGKILL
    else:
        with _BAD_MOMENTS[fault](copy / OUT, random) as enter:
            code, errors = finish(start(command, copy, enter), copy)
        met = code not in (None, 0)
        if wrong := wrong_words(code, errors):
            return met, f"under the fault: {wrong}"
        if fault == "closed" and not met:
            return met, "nothing could be written, and nothing was said"
    code, errors = finish(start(command, copy, lambda: None), copy)
    if code not in (None, 0):
        return met, f"again: exit code {code}: {errors[-400:]}"
    found = contents(copy / OUT)
    if left := [name for name in found if name.endswith(PART)]:
        return met, f"left: {left}"
    other = sorted(name for name in found.keys() | expected[0].keys() if found.get(name) != expected[0].get(name))
    return met, f"other bytes: {other}" if other else None


def fresh(whole: Path, copy: Path) -> None:
    """A new copy, with an empty folder for what is written."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    (copy / OUT).mkdir()


def start(command: tuple[str, ...], folder: Path, enter: Callable[[], None]) -> int:
    """Run it in a child, with `enter` first; returns its number."""
    child = os.fork()
    if child:
        return child
    said: Any = ("nothing", "")
    try:
        os.setpgid(0, 0)
        with limited(PATIENCE_S):
            enter()
            said = run_command(command, folder)
    except Hang:
        said = (f"took more than {PATIENCE_S} s", "")
    except BaseException as error:
        said = (f"traceback: {type(error).__name__}: {error}", "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        (folder / "said.json").write_text(json.dumps(said, default=str))
        os._exit(0)


def finish(child: int, folder: Path) -> tuple[Any, str]:
    """Exit code, and what was said on standard error."""
    _, status = os.waitpid(child, 0)
    if status:
        return f"the process ended with {status}", ""
    code, errors = json.loads((folder / "said.json").read_text())
    return code, errors


@contextmanager
def _full(out: Path, random: Generator) -> Iterator[Callable[[], None]]:
    """A disk with little room, where `SMALL_DISKS`; else files that can't grow."""
    room = int(2 ** random.uniform(9, 15))
    if not SMALL_DISKS:
        yield partial(_no_file_beyond, room)
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(room, 8192)}", "tmpfs", out], check=True)
    try:
        yield lambda: None
        shutil.copytree(out, out.with_name("kept"))  # the disk goes, what lies on it stays
    finally:
        subprocess.run(["umount", "-l", out], check=False)
    shutil.copytree(out.with_name("kept"), out, dirs_exist_ok=True)
    shutil.rmtree(out.with_name("kept"))


@contextmanager
def _closed(out: Path, random: Generator) -> Iterator[Callable[[], None]]:
    """A file system that can't be written, where `SMALL_DISKS`; else files that can't hold a byte."""
    if not SMALL_DISKS:
        yield partial(_no_file_beyond, 0)
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", out], check=True)
    try:
        yield lambda: None
    finally:
        subprocess.run(["umount", "-l", out], check=False)


def _no_file_beyond(room: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))


@contextmanager
def _error(out: Path, random: Generator) -> Iterator[Callable[[], None]]:
    """EIO, at one of the first calls by which a file comes to its place."""
    left = int(random.integers(1, 12))
    true = Path.replace

    def replace(self: Path, target: Any) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(EIO, os.strerror(EIO), str(target))
        return true(self, target)

    def enter() -> None:
        patch.object(Path, "replace", replace).start()

    yield enter


_BAD_MOMENTS = {"full": _full, "closed": _closed, "error": _error}


def main(whole: Path, copy: Path, rounds: int, seed: int, writers: list[str], faults: list[str]) -> None:
    """Writes a line of JSON for each try."""
    import undistill.enhance.files
    import undistill.judge.study
    import undistill.pairs.create
    import undistill.report.judge
    import undistill.training.run
    import undistill.training.sweep  # noqa: F401

    for writer in writers:
        fresh(whole, copy)
        begun = monotonic()
        code, errors = finish(start(WRITERS[writer], copy, lambda: None), copy)
        if code not in (None, 0):
            raise SystemExit(f"{writer} fails when it is left alone: {errors}")
        expected = contents(copy / OUT), monotonic() - begun
        for number in range(rounds):
            for fault in faults:
                met, wrong = try_writer(writer, fault, whole, copy, expected, seed + number)
                entry = {"writer": writer, "fault": fault, "seed": seed + number, "met": met, "wrong": wrong}
                print(json.dumps(entry), flush=True)
    shutil.rmtree(copy, ignore_errors=True)


if __name__ == "__main__":
    corpus, place, times, first, *names = sys.argv[1:]
    main(Path(corpus), Path(place), int(times), int(first), *(name.split(",") for name in names))
