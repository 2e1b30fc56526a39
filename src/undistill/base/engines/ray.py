"""An engine on a Ray cluster, or on one that is started on this machine for the time of the work.

A worker is an actor, which holds the tool. What crosses the wire is the task and what `work` says; the files that it
reads and writes never do.
"""

import logging
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from socket import create_connection
from typing import Any

import torch

from undistill.base.engines import Engine, Maker, Update, Work
from undistill.base.errors import Failure, UsageError, first_line
from undistill.base.machine import keep_memory

TRIES = 3
"""So often a task is given to a worker, where one after another is killed over it."""

# For Ray, before it is imported: no usage statistics; no lines of its own about workers that die, which we handle; no
# advice on how it hides GPUs from workers that ask for none (ours then compute on the CPU).
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_CONNECT_TIMEOUT_S = 10.0
_STORE_BYTES = 100 << 20  # what crosses it is small; Ray would take 30% of the memory


class WorkerActor:
    """What becomes an actor."""

    def __init__(self, maker: Maker[Any], work: Work[Any, Any, Any]) -> None:
        keep_memory()
        self.maker = maker
        self.work = work
        self.tool: Any = None

    def start(self) -> Iterator[None]:
        """Yields nothing: when it ends, the worker is there."""
        yield from ()

    def do(self, task: Any) -> Iterator[Any]:
        """The updates of a task. What goes wrong is yielded, too: if it were raised, Ray would wrap it."""
        torch.set_num_threads(1)  # as `local.in_processes` does, whatever Ray and OMP_NUM_THREADS say
        try:
            self.tool = self.tool or self.maker()
            yield from self.work(task, self.tool)
        except (UsageError, Failure, OSError) as error:
            yield error


def on_ray(workers: int | None = None, address: str | None = None, gpus: float | None = None) -> Engine:
    """Do tasks in actors, each with one CPU and one thread of torch. A killed worker's task goes to a new one.

    Args:
        workers: how many; None: as many as the cluster has room for.
        address: of a cluster, as `ray.init` takes it; None: that of RAY_ADDRESS, else one is started here, without a
            dashboard, for the time of the work. Where Ray is initialised already, it is used as it is.
        gpus: a worker's share; None: 1 where the cluster has GPUs, else 0.

    Raises:
        UsageError: Ray is not installed, or nobody is at the address; and, by the engine, it is no cluster, or one
            without room for a worker.
    """
    ray, place = import_ray(address)

    def run(tasks: Sequence[Any], maker: Maker[Any], work: Work[Any, Any, Update]) -> Generator[Update, None, None]:
        if tasks:
            with cluster(ray, workers, place):
                count, share = room(ray.cluster_resources(), workers, gpus)
                actor = ray.remote(num_cpus=1, num_gpus=share)(WorkerActor)
                yield from _drive(ray, tasks, partial(actor.remote, maker, work), count)

    return run


def import_ray(address: str | None) -> tuple[Any, str]:
    """Ray, and the address that is meant.

    Raises:
        UsageError: Ray is not installed, or nobody is at the address.
    """
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray: pip install 'undistill[ray]'") from None
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    _knock(address)
    return ray, address


def _drive(ray: Any, tasks: Sequence[Any], hire: Callable[[], Any], count: int) -> Iterator[Any]:
    """Hands tasks to workers that are there (others may wait for room), and yields what they say."""
    left = deque((task, 1) for task in tasks)
    unfinished = len(tasks)
    at_work: dict[Any, tuple[Any, Any, int]] = {}  # by the stream of what it says: worker, task (None: start), try

    def start(nth: int) -> None:
        worker = hire()
        at_work[worker.start.remote()] = worker, None, nth

    try:
        for _ in range(min(count, len(tasks))):
            start(1)
        while unfinished:
            (stream, *_), _ = ray.wait(list(at_work), num_returns=1)
            worker, task, nth = at_work[stream]
            try:
                said = ray.get(next(stream))
            except StopIteration:
                del at_work[stream]
                unfinished -= task is not None
                if left:
                    task, nth = left.popleft()
                    at_work[worker.do.remote(task)] = worker, task, nth
                # Else nobody holds the worker any more: Ray ends it, and another may have its place.
            except killed(ray) as error:
                del at_work[stream]
                ray.kill(worker)  # if it is only cut off
                if nth == TRIES:
                    raise Failure(_death(task, error)) from None
                if task is None:
                    start(nth + 1)
                else:
                    left.appendleft((task, nth + 1))
                    start(1)
            else:
                if isinstance(said, Exception):
                    raise said
                yield said
    finally:
        with suppress(Exception):  # a cluster that is gone has no workers
            for worker, _, _ in at_work.values():
                ray.kill(worker)


def killed(ray: Any) -> tuple[type[Exception], ...]:
    """What Ray raises where a worker is no more, by whatever hand."""
    return ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError


def _death(task: Any, error: Exception) -> str:
    if task is None:
        return f"workers can't start on the cluster: {str(error).strip().splitlines()[-1]}"
    return (
        f"{TRIES} workers were killed, one after another, over {task}, perhaps because memory ran out: take fewer "
        "--workers; what is done is kept, the same command goes on"
    )


def _knock(address: str) -> None:
    """Where nobody is, Ray tries for minutes, and not quietly."""
    if match := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
        try:
            create_connection((match[1], int(match[2])), _CONNECT_TIMEOUT_S).close()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise UsageError(f"no Ray cluster at {address}: {reason}") from error


@contextmanager
def cluster(ray: Any, workers: int | None, address: str, **more: Any) -> Iterator[None]:
    """Ray, initialised.

    Args:
        more: what `ray.init` is told where a cluster is started here.

    Raises:
        UsageError: there is no cluster.
    """
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {}
    if address == "local":
        # 127.0.0.1: it neither needs a network, nor is open to one.
        options = {"_node_ip_address": "127.0.0.1", "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        options |= {"num_cpus": workers, **more}
    interrupt = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(f"no Ray cluster at {address}: {first_line(error)}") from error
    with suppress(TypeError, ValueError):  # not Python's, or not our thread's
        signal.signal(signal.SIGTERM, interrupt)  # Ray's ends the process without a line
    try:
        yield
    finally:
        ray.shutdown()


def room(resources: dict[str, float], workers: int | None, gpus: float | None) -> tuple[int, float]:
    """How many workers, and each one's share of GPUs. More than there is room for wait until there is.

    Raises:
        UsageError: there is room for none.
    """
    cpus, cards = resources.get("CPU", 0), resources.get("GPU", 0)
    share = float(cards > 0) if gpus is None else gpus
    most = int(min(cpus, cards // share) if share else cpus)
    if not most:
        raise UsageError(f"the Ray cluster has {cpus:g} CPUs and {cards:g} GPUs: no room for a worker on {share:g} GPU")
    return workers or most, share
