"""The service on Ray Serve: one replica takes requests, and others, as many as the queue needs, enhance.

What is taken in is `app.make_app`, as on one machine. What a killed replica was at is given to another: to enhance a
picture twice does no harm.
"""

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from socket import create_connection
from threading import Event
from typing import Any, TypeVar

import torch

from undistill.base.device import pick_device
from undistill.base.engines.ray import TRIES, cluster, import_ray, killed, room
from undistill.base.errors import Failure, UsageError
from undistill.enhance.bytes import Enhanced
from undistill.enhance.change import Change
from undistill.enhance.provenance import Label
from undistill.images import Encoding, ImageError
from undistill.serve.app import Limits, make_app
from undistill.serve.faces import Box, boxes_in
from undistill.serve.guard import log_to_stderr
from undistill.serve.heads import ServedHead
from undistill.serve.queue import Queue
from undistill.serve.work import Work

Result = TypeVar("Result")

ON_GPU = 4
"""Threads of a replica with a GPU: one image is decoded and one encoded while others run. On a CPU there is one."""
_POLL_S = 0.2
_SENT_S = 1.0
"""What is answered is still on its way through Ray's proxy."""
_STARTS_S = 300.0
_STORE_BYTES = 1 << 30
# For Ray, before it is imported: on a busy machine its proxy starts later than the 5 s after which it would be killed.
_PATIENT = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_worker_register_timeout_seconds": "300",
}
_QUIET = {"enable_access_log": False, "log_level": "WARNING"}  # the app has a log of its own, without queries


class Enhancing:
    """What becomes a replica that enhances."""

    def __init__(self, heads: Sequence[ServedHead], device: str | None, threads: int) -> None:
        torch.set_num_threads(1)  # whatever Ray and OMP_NUM_THREADS say
        self.work = Work(heads, [pick_device(device)], places=threads + 1, threads=threads)

    async def enhance(self, *asked: Any) -> tuple[Enhanced | ImageError, float]:
        """As of `Work`, and the seconds it took. Errors of the image are given: if raised, Ray would wrap them."""
        return await self.work.do(partial(_timed, partial(self.work.made, *asked)))

    async def faces(self, data: bytes) -> tuple[list[Box] | ImageError, float]:
        """As of `Work`."""
        return await self.work.do(partial(_timed, partial(boxes_in, data)))


def _timed(make: Callable[[], Result]) -> tuple[Result | ImageError, float]:
    begun = time.perf_counter()
    made: Result | ImageError
    try:
        made = make()
    except ImageError as error:
        made = error
    return made, time.perf_counter() - begun


class RemoteWork(Queue):
    """A queue before replicas.

    Args:
        handle: of `Enhancing`'s deployment.
        lost: what is raised where a replica is no more.
        heads, places, hands: see `Queue`.
    """

    def __init__(
        self, handle: Any, lost: tuple[type[Exception], ...], heads: Sequence[ServedHead], places: int, hands: int
    ) -> None:
        super().__init__(heads, places, hands)
        self._handle = handle
        self._lost = lost

    async def enhance(
        self, head: str, data: bytes, wanted: Change, how: Encoding, same_kind: bool, label: Label | None
    ) -> Enhanced:
        made: Enhanced = await self._ask(self._handle.enhance, head, data, wanted, how, same_kind, label)
        return made

    async def faces(self, data: bytes) -> list[Box]:
        boxes: list[Box] = await self._ask(self._handle.faces, data)
        return boxes

    async def _ask(self, method: Any, *arguments: Any) -> Any:
        begun = time.perf_counter()
        for nth in range(1, TRIES + 1):
            answer = method.remote(*arguments)
            try:
                made, took = await answer
                break
            except self._lost:
                if nth == TRIES:
                    raise
            except asyncio.CancelledError:
                answer.cancel()
                raise
        self.worked(time.perf_counter() - begun - took, took)
        if isinstance(made, ImageError):
            raise made
        return made


class Ingress:
    """What becomes the replica that takes requests."""

    def __init__(
        self, handle: Any, heads: Sequence[ServedHead], places: int, hands: int, limits: Limits, quiet: bool
    ) -> None:
        import ray

        log_to_stderr(quiet)
        self.work = RemoteWork(handle, killed(ray), heads, places, hands)
        self.limits = limits

    def __serve_build_asgi_app__(self) -> Any:
        return make_app(self.work, self.limits)

    async def close(self) -> tuple[int, int]:
        """Take nothing more; requests that are not answered yet, and those that never were."""
        self.work.close()
        return self.work.taken, self.work.left


def serve_on_ray(
    read: Callable[[bool], Sequence[ServedHead]],
    places: int,
    limits: Limits,
    at: tuple[str, int],
    replicas: int | None,
    device: str | None,
    address: str | None,
    begun: Callable[[], object],
    quiet: bool,
) -> int:
    """Serve until SIGINT or SIGTERM comes: then what was taken is answered. After a second one Ray ends it in its time.

    Args:
        read: gives the heads, when it is known whether they run on GPUs.
        places: requests that are read, wait or are worked on at a time.
        at: host and port.
        replicas: that enhance, at most; None: as many as the cluster has room for.
        device: of each; None: a GPU, where the cluster has some.
        address: of a cluster: see `on_ray`.
        begun: called when requests are taken.
        quiet: no line for each request.

    Returns: requests that were taken, and not answered.

    Raises:
        UsageError: Ray Serve is not installed, there is no such cluster, it serves already, or it has no room; or a
            device that a replica can't have.
        Failure: its replicas don't start.
    """
    os.environ.update({name: value for name, value in _PATIENT.items() if name not in os.environ})
    ray, address = import_ray(address)
    try:
        from ray import serve
        from ray.serve.exceptions import RayServeException
    except ImportError as error:
        raise UsageError(f"--engine ray needs {error.name}: pip install 'undistill[serve-ray]'") from None
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if device not in (None, "auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: with --engine ray take cpu or cuda, each replica's own")
    # What is sent to it should not come to lie on a disk.
    system = {"automatic_object_spilling_enabled": False}
    with cluster(ray, replicas, address, object_store_memory=_store(), _system_config=system):
        status = serve.status()
        if status.proxies or status.applications:  # its port may be open to others, and ending ours would end theirs
            raise UsageError("Ray Serve runs on this cluster already: take another cluster, or `serve shutdown` it")
        most, gpus = room(ray.cluster_resources(), replicas, 0 if device == "cpu" else None)
        if device == "cuda" and not gpus:
            raise UsageError("--device cuda: the Ray cluster has no GPU")
        heads, threads = read(bool(gpus)), ON_GPU if gpus else 1
        enhancing = serve.deployment(
            Enhancing,
            max_ongoing_requests=threads + 1,  # those that it works on, and the next
            autoscaling_config={"min_replicas": 1, "max_replicas": most, "target_ongoing_requests": threads + 1},
            ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
            health_check_period_s=2,
        )
        ingress = serve.deployment(
            serve.ingress()(Ingress),
            max_ongoing_requests=places + 1000,  # the app says who is too many
            ray_actor_options={"num_cpus": 0},
            health_check_period_s=2,
        )
        options = {"host": at[0], "port": at[1], "request_timeout_s": limits.seconds + 5}
        try:
            with suppress(TimeoutError):  # after a minute; but the proxy may still come
                serve.start(http_options=options, logging_config=_QUIET)
            remote = enhancing.bind(heads, device, threads)
            application = ingress.bind(remote, heads, places, most * threads, limits, quiet)
            handle = serve.run(application, name="undistill", logging_config=_QUIET)
            _wait_for(at)
            ended = _signalled()
            begun()
            ended.wait()
            return _closed(handle, limits.seconds + 5)
        except (RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError, RayServeException) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]  # all that its replicas have said
            raise Failure(f"Ray Serve failed: {lines[-1]}") from error
        finally:
            serve.shutdown()


def _store() -> int:
    """Bytes of the cluster that is started here, for uploads on their way: in memory, as far as there is some."""
    with suppress(OSError):
        return max(100 << 20, min(_STORE_BYTES, int(0.8 * shutil.disk_usage("/dev/shm").free)))
    return _STORE_BYTES


def _wait_for(at: tuple[str, int]) -> None:
    """Until somebody answers there: Ray says sooner that it does.

    Raises:
        Failure: nobody does.
    """
    host = "127.0.0.1" if at[0] == "0.0.0.0" else "::1" if at[0] == "::" else at[0]
    until = time.monotonic() + _STARTS_S
    while time.monotonic() < until:
        with suppress(OSError):
            create_connection((host, at[1]), 10.0).close()
            return
        time.sleep(_POLL_S)
    raise Failure(f"Ray's proxy doesn't listen on {at[0]}, port {at[1]}, after {_STARTS_S:g} s")


def _signalled() -> Event:
    """Is set by the first SIGINT or SIGTERM; the second ends as it would have without."""
    ended = Event()
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}

    def first(*_: object) -> None:
        ended.set()
        for kind, handler in before.items():
            signal.signal(kind, handler)

    for kind in before:
        signal.signal(kind, first)
    return ended


def _closed(handle: Any, seconds: float) -> int:
    """Take nothing more, and wait for what was taken; requests that were not answered."""
    until = time.monotonic() + seconds
    while True:
        taken, left = handle.close.remote().result(timeout_s=max(1.0, until - time.monotonic()))
        if not taken or time.monotonic() >= until:
            time.sleep(_SENT_S)
            return int(taken + left)
        time.sleep(_POLL_S)
