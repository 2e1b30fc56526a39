"""A sweep in several processes of one machine, each of which does what one alone does."""

import os
import signal
import sys
from contextlib import redirect_stderr
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from undistill.base.engines.local import with_parent
from undistill.base.errors import Failure, UsageError
from undistill.base.progress import progress
from undistill.dataset.shard import Pairs
from undistill.training.sweep import SweepStudy, results, train_cells


def work_together(
    studies: list[SweepStudy], data: Path, out: Path, max_steps: int | None, device: str, workers: int
) -> signal.Signals | None:
    """`train_cells` in several processes, with a bar of the cells; on a machine with several GPUs they share them out.

    Returns: the signal that ended it, if one did: Ctrl-C's or SIGTERM, upon which all of them save what they are at.

    Raises:
        UsageError, Failure: a worker ended with it. The others go on to the end of their cell, and stop.
    """
    context = get_context("spawn")  # a forked process can't use a GPU, nor torch's threads
    threads = max(1, torch.get_num_threads() // workers)
    lines: dict[Connection, Any] = {}
    stopped: signal.Signals | None = None
    problem: Exception | None = None

    def stop(number: int, _: object) -> None:
        nonlocal stopped
        stopped = signal.Signals(number)
        _terminate(lines)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with progress("sweep", *_count_cells(out)) as bar:
            for number in range(workers):
                ours, theirs = context.Pipe()
                arguments = (theirs, studies, data, out, max_steps, _worker_device(device, number), threads)
                lines[ours] = context.Process(target=_run_cells, args=arguments)
                lines[ours].start()
                theirs.close()
            open_lines: list[Any] = list(lines)
            while open_lines:
                for line in wait(open_lines):
                    assert isinstance(line, Connection)
                    try:
                        said = line.recv()
                    except (EOFError, ConnectionError):
                        open_lines.remove(line)
                        lines[line].join()
                        if lines[line].exitcode and stopped is None and problem is None:
                            problem = Failure(
                                f"a worker ended with exit code {lines[line].exitcode}; the same command goes on"
                            )
                            _terminate(lines)
                        continue
                    if isinstance(said, Exception):
                        problem = problem or said
                        _terminate(lines)
                    else:
                        bar.advance(said)
    finally:
        for process in lines.values():
            process.join()
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if problem is not None and stopped is None:
        raise problem
    return stopped


def _count_cells(out: Path) -> tuple[int, int]:
    """Cells in all, and those that are done."""
    cells = [cell for study in results(out)["studies"].values() for cell in study["cells"]]
    return len(cells), sum(cell["state"] in ("done", "diverged") for cell in cells)


def _worker_device(device: str, worker: int) -> str:
    if device == "auto" and torch.cuda.device_count() > 1:
        return f"cuda:{worker % torch.cuda.device_count()}"
    return device


def _terminate(lines: dict[Connection, Any]) -> None:
    for process in lines.values():
        if process.is_alive():
            process.terminate()  # SIGTERM: training saves


def _run_cells(
    line: Connection, studies: list[SweepStudy], data: Path, out: Path, max_steps: int | None, device: str, threads: int
) -> None:
    # Ctrl-C reaches all processes of a terminal; workers leave it to the first, which sends them SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # between two runs there is nothing to save
    with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))  # upon which we save
    torch.set_num_threads(threads)
    try:
        # The bars of several trainings have no place in one terminal.
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            train_cells(studies, Pairs(data), out, max_steps, device, line.send)
    except (UsageError, Failure) as error:
        line.send(error)
    except OSError as error:
        line.send(Failure(f"{error.filename or 'a file'}: {error.strerror or error}; then the same command goes on"))
