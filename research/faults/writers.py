"""Bad moments for every command that writes: the same command then ends with the bytes of one that was left alone.

Each try is a child of this process, forked when all is imported, so that it costs a fraction of a second. It dies by
kill -9 after a random time, or meets a full disk, a folder that can't be written, or an error of the disk at one of its
writes, fsyncs, truncations and renames, drawn among all that it makes (eio.c, which `main` loads).
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
from ctypes import CDLL
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

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


class Whole(NamedTuple):
    """What a run that was left alone has made, in how many seconds, with how many calls that may fail."""

    contents: dict[str, str]
    seconds: float
    calls: int


def contents(out: Path) -> dict[str, str]:
    """The hash of each file, by its path."""
    files = (path for path in out.rglob("*") if path.is_file() and not path.name.startswith(_TIMES))
    return {path.relative_to(out).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def try_writer(writer: str, fault: str, whole: Path, copy: Path, expected: Whole, seed: int) -> tuple[bool, str | None]:
    """One try; returns whether the fault was met, and what is wrong with how it ended, or None.

    Args:
        writer, fault: of `WRITERS` and `FAULTS`.
        whole: the corpus; `copy`: where a copy of it is made.
        expected: of an undisturbed run.
    """
    random = np.random.default_rng(seed)
    fresh(whole, copy)
    command = WRITERS[writer]
    if fault == "kill":
        child = start(command, copy, lambda: None)
        sleep(random.uniform(0, expected.seconds))
        os.kill(child, signal.SIGKILL)
        met = os.waitpid(child, 0)[1] == signal.SIGKILL
    else:
        with _bad_moment(fault, copy / OUT, random, expected.calls) as enter:
            code, errors, _ = finish(start(command, copy, enter), copy)
        met = code not in (None, 0)
        if wrong := wrong_words(code, errors):
            return met, f"under the fault: {wrong}"
        if fault == "error" and met and OUT not in errors:
            return met, f"no path is named: {errors[-400:]}"
        if fault == "closed" and not met:
            return met, "nothing could be written, and nothing was said"
    code, errors, _ = finish(start(command, copy, lambda: None), copy)
    if code not in (None, 0):
        return met, f"again: exit code {code}: {errors[-400:]}"
    found = contents(copy / OUT)
    if left := [name for name in found if name.endswith(PART)]:
        return met, f"left: {left}"
    there = expected.contents
    other = sorted(name for name in found.keys() | there.keys() if found.get(name) != there.get(name))
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
        (folder / "said.json").write_text(json.dumps([*said, _calls_made()], default=str))
        os._exit(0)


def finish(child: int, folder: Path) -> tuple[Any, str, int]:
    """Exit code, what was said on standard error, and how many calls were counted."""
    _, status = os.waitpid(child, 0)
    if status:
        return f"the process ended with {status}", "", 0
    code, errors, calls = json.loads((folder / "said.json").read_text())
    return code, errors, calls


@contextmanager
def _bad_moment(fault: str, out: Path, random: Generator, calls: int) -> Iterator[Callable[[], None]]:
    if fault == "error":
        yield partial(_fail_at, out, int(random.integers(1, calls + 1)))
        return
    with {"full": _full, "closed": _closed}[fault](out, random) as enter:
        yield enter


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


def _fail_at(out: Path, call: int) -> None:
    """EIO at the call of this number; 0: at none, but they are counted."""
    CDLL(None).fail_at(os.fsencode(out.resolve()), call)


def _calls_made() -> int:
    return int(CDLL(None).calls_made()) if "LD_PRELOAD" in os.environ else 0


def _preloaded(folder: Path) -> None:
    """Build what fails calls, and begin anew with it."""
    library = folder / "eio.so"
    if os.environ.get("LD_PRELOAD") != str(library):
        source = Path(__file__).with_name("eio.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        arguments = [sys.executable, "-m", "research.faults.writers", *sys.argv[1:]]
        os.execve(sys.executable, arguments, os.environ | {"LD_PRELOAD": str(library)})


def main(whole: Path, copy: Path, rounds: int, seed: int, writers: list[str], faults: list[str]) -> None:
    """Writes a line of JSON for each try."""
    if "error" in faults:
        _preloaded(copy.parent)
    import undistill.enhance.files
    import undistill.judge.study
    import undistill.pairs.create
    import undistill.report.judge
    import undistill.training.run
    import undistill.training.sweep  # noqa: F401

    for writer in writers:
        fresh(whole, copy)
        begun = monotonic()
        alone = partial(_fail_at, copy / OUT, 0) if "error" in faults else lambda: None
        code, errors, calls = finish(start(WRITERS[writer], copy, alone), copy)
        if code not in (None, 0):
            raise SystemExit(f"{writer} fails when it is left alone: {errors}")
        expected = Whole(contents(copy / OUT), monotonic() - begun, calls)
        for number in range(rounds):
            for place, fault in enumerate(faults):  # one that is named twice is another the second time
                own = seed + number + place
                met, wrong = try_writer(writer, fault, whole, copy, expected, own)
                print(
                    json.dumps({"writer": writer, "fault": fault, "seed": own, "met": met, "wrong": wrong}), flush=True
                )
    shutil.rmtree(copy, ignore_errors=True)


if __name__ == "__main__":
    corpus, place, times, first, *names = sys.argv[1:]
    main(Path(corpus), Path(place), int(times), int(first), *(name.split(",") for name in names))
