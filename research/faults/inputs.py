"""Broken inputs, in this process: no traceback, no hang, nothing half written, one line that says what is wrong."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from research.faults.corpus import Case, Painter
from research.faults.mutation import mutated
from undistill.base.engines.local import in_process
from undistill.base.files import PART
from undistill.cli import main

PATIENCE_S = 20
"""CPU time: beside other work a command waits for its turn."""
_LONGEST = 600  # a line that nobody reads to its end is a riddle, too


class Hang(BaseException):
    """It worked longer than `PATIENCE_S`, or waited ten times as long."""


def try_case(case: Case, whole: Path, copy: Path, seed: int) -> str | None:
    """Break the file of a case and run its command; returns what is wrong with how it ended, or None.

    Args:
        whole: the corpus; `copy`: where a copy is made for it, and left.
        seed: of the faults.
    """
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    random = np.random.default_rng(seed)
    others = sorted(path for path in (whole / case.file).parent.iterdir() if path.is_file())
    other = others[int(random.integers(len(others)))].read_bytes()
    (copy / case.file).write_bytes(mutated((whole / case.file).read_bytes(), other, random, Path(case.file).suffix))
    try:
        with limited(PATIENCE_S):
            code, errors = run_command(case.command, copy)
    except Hang:
        return f"took more than {PATIENCE_S} s"
    except BaseException as error:
        return f"traceback: {type(error).__name__}: {error}"
    return wrong_words(code, errors) or (_half_written(copy / case.out) if case.out else None)


def run_command(command: tuple[str, ...], folder: Path) -> tuple[object, str]:
    """Exit code, and what was said on standard error."""
    errors, here = StringIO(), Path.cwd()
    os.chdir(folder)
    environment = {"UNDISTILL_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    try:
        with (
            redirect_stdout(StringIO()),
            redirect_stderr(errors),
            patch.object(sys, "argv", ["undistill", *command]),
            patch.dict(os.environ, environment),
            patch("undistill.pairs.generator.Generator", Painter),
            patch("undistill.base.engines.local.in_processes", lambda _: in_process),
        ):
            main()
    except SystemExit as end:
        return end.code, errors.getvalue()
    finally:
        os.chdir(here)
    return 0, errors.getvalue()


def wrong_words(code: object, errors: str) -> str | None:
    """What is wrong with an exit code and what was said on standard error, or None."""
    if "Traceback" in errors:
        return f"a traceback is printed: {errors[-_LONGEST:]}"
    if code not in (None, 0, 1, 2):
        return f"exit code {code}"
    if code in (1, 2):
        said = [line for line in errors.splitlines() if line.startswith("undistill: ")]
        if len(said) != 1:
            return f"{len(said)} lines say what is wrong: {errors[-_LONGEST:]}"
        if len(said[0]) > _LONGEST:
            return f"a line of {len(said[0])} characters: {said[0][:_LONGEST]}"
    return None


def _half_written(out: Path) -> str | None:
    for path in out.rglob("*") if out.is_dir() else ():
        if path.name.endswith(PART):
            return f"{path.name} is left"
        if path.suffix in (".png", ".jpg", ".webp", ".tif", ".avif"):
            try:
                with Image.open(path) as image:
                    image.load()
            except Exception as error:
                return f"{path.name} is half written: {error}"
    return None


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `Hang` after so many seconds of CPU time, or ten times as many of waiting."""

    def ring(*_: object) -> None:
        raise Hang

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, 10 * seconds)}
    before = {number: signal.signal(number, ring) for number in timers}
    try:
        for timer, after in timers.values():
            signal.setitimer(timer, after)
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def main_worker(corpus: Path, copy: Path, first: int, count: int) -> None:
    """Tries so many cases, and writes a line of JSON for each, before (a crash shows which it was) and after."""
    cases = [Case(file, tuple(command), out) for file, command, out in json.loads((corpus / "cases.json").read_text())]
    said = os.dup(1)  # the commands' own output goes elsewhere

    def tell(**entry: object) -> None:
        os.write(said, (json.dumps(entry) + "\n").encode())

    for seed in range(first, first + count):
        case = cases[seed % len(cases)]
        tell(seed=seed, file=case.file, command=case.command)
        tell(seed=seed, wrong=try_case(case, corpus / "whole", copy, seed))
    with suppress(OSError):
        shutil.rmtree(copy)


if __name__ == "__main__":
    main_worker(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
