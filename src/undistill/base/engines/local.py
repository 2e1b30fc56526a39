"""Engines on this machine: in this process, in threads of it, or in several."""

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain, groupby
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from threading import Thread
from typing import Any

from undistill.base.engines import Engine, Maker, Update, Work
from undistill.base.errors import Failure, UsageError
from undistill.base.machine import keep_memory
from undistill.base.threads import spread

_JOIN_TIMEOUT_S = 10.0


def in_process(tasks: Sequence[Any], maker: Maker[Any], work: Work[Any, Any, Update]) -> Generator[Update, None, None]:
    """Do the tasks here, one after another, with torch's threads as they are: see `undistill.base.engines.Engine`."""
    if tasks:
        tool = maker()
        for task in tasks:
            yield from work(task, tool)


def in_threads(
    alone: Callable[[Any], bool], count: int | None = None, give_up: Callable[[Any], object] = lambda _: None
) -> Engine:
    """Do tasks here, side by side, each with one of torch's threads; updates in the tasks' order.

    So one task reads while another computes and a third writes, and what comes out doesn't depend on how many cores
    there are.

    Args:
        alone: whether a task is to have all of torch's threads, and the memory, for itself. So has one that is the
            only one.
        count: of threads; None: as many as torch has.
        give_up: called with the tool where it ends early, before tasks that are begun are waited for: what they wait
            for need not come.
    """

    def run(tasks: Sequence[Any], maker: Maker[Any], work: Work[Any, Any, Update]) -> Generator[Update, None, None]:
        tool = maker() if tasks else None
        for one_by_one, some in groupby(tasks, lambda task: len(tasks) == 1 or alone(task)):
            if one_by_one:
                for task in some:
                    yield from work(task, tool)
            else:
                with closing(
                    spread(lambda task: list(work(task, tool)), some, count, partial(give_up, tool))
                ) as updates:
                    yield from chain.from_iterable(updates)

    return run


def in_processes(workers: int) -> Engine:
    """Do tasks in several processes of this machine, each with one thread of torch.

    A worker that is killed ends it: most likely memory ran out, and would again.
    """

    def run(tasks: Sequence[Any], maker: Maker[Any], work: Work[Any, Any, Update]) -> Generator[Update, None, None]:
        left = deque(tasks)

        def order(line: Connection) -> None:
            try:
                line.send(left.popleft())
            except ConnectionError:
                raise Failure(_death(hired[line])) from None

        with _hired(min(workers, len(left)), maker, work) as hired:
            for line in hired:
                order(line)
            at_work = list(hired)
            while at_work:
                ready: list[Any] = wait(at_work)
                for line in ready:
                    try:
                        said = line.recv()
                    except (EOFError, ConnectionError):
                        raise Failure(_death(hired[line])) from None
                    if isinstance(said, Exception):
                        raise said
                    if said is not None:
                        yield said
                    elif left:
                        order(line)
                    else:
                        at_work.remove(line)

    return run


@contextmanager
def _hired(count: int, maker: Maker[Any], work: Work[Any, Any, Any]) -> Iterator[dict[Connection, SpawnProcess]]:
    """Worker processes by the pipes that lead to them; they are gone afterwards.

    Pipes, and no queue: a worker that is killed can't leave the others a locked one.
    """
    context = get_context("spawn")  # a forked process can't use a GPU, nor torch's threads
    hired: dict[Connection, SpawnProcess] = {}
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_run_worker, args=(theirs, maker, work), daemon=True)
            # Ctrl-C reaches all processes of a terminal, and systemd's SIGTERM all of a job: workers, from their first
            # moment, leave both to us, who kill them.
            before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                process.start()
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
            theirs.close()
            hired[ours] = process
        yield hired
        # A worker whose pipe is closed ends by itself; killed, it would leave semaphores, and a warning about them.
        for line, process in hired.items():
            line.close()
            process.join(_JOIN_TIMEOUT_S)
    finally:
        for process in hired.values():
            process.kill()
        for process in hired.values():
            process.join()


def _run_worker(line: Connection, maker: Maker[Any], work: Work[Any, Any, Any]) -> None:
    """A worker: does the tasks it is given, and tells what they say and, with None, of the end of each."""
    import torch  # seconds: who only wants `with_parent` needn't wait

    keep_memory()
    with_parent(lambda: os._exit(1))
    torch.set_num_threads(1)  # sums of several threads may be rounded otherwise than those of one
    tool = None
    try:
        while True:
            task = line.recv()
            try:
                tool = tool or maker()
                for said in work(task, tool):
                    line.send(said)
            except (UsageError, Failure, OSError) as error:
                line.send(error)
                return
            line.send(None)
    except (EOFError, ConnectionError):  # nobody is left to tell
        return


def with_parent(end: Callable[[], None]) -> None:
    """Call `end`, in a thread, when this process's parent is gone: one that is killed can't end its workers."""
    parent = parent_process()
    assert parent is not None
    gone = parent.sentinel

    def watch() -> None:
        wait([gone])
        end()

    Thread(target=watch, daemon=True).start()


def _death(worker: SpawnProcess) -> str:
    worker.join()
    if worker.exitcode == -signal.SIGKILL:
        return (
            "a worker was killed, perhaps because memory ran out: take fewer --workers; what is done is kept, the same "
            "command goes on"
        )
    return f"a worker ended with exit code {worker.exitcode}; what is done is kept, the same command goes on"
