"""Places, threads and heads: who is let in, who does the work, and with what."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from math import ceil
from threading import Lock
from typing import TypeVar

import torch

from undistill.base.machine import cores
from undistill.enhance import Enhancer
from undistill.enhance.bytes import Enhanced, enhance_bytes
from undistill.enhance.change import Change, Run
from undistill.enhance.provenance import Label
from undistill.images import Encoding
from undistill.serve.faces import Box, boxes_in
from undistill.serve.heads import ServedHead
from undistill.serve.meters import Meters
from undistill.serve.problems import Problem
from undistill.serve.together import Together

Result = TypeVar("Result")
TOGETHER = 8
"""Images of one size that a GPU computes at once. On a CPU it doesn't pay (docs/serve.md)."""


class Work:
    """A bounded queue before the threads that decode, enhance and encode.

    Args:
        heads: that may be asked for; the first is taken where a request names none.
        devices: where each of them runs; none: elsewhere (`ray`).
        places: requests that are read, wait or are worked on at a time.
        threads: None: as many as there are cores.

    Raises:
        UsageError: a backend that can't run a head.
    """

    def __init__(
        self, heads: Sequence[ServedHead], devices: Sequence[torch.device], places: int, threads: int | None = None
    ) -> None:
        self.heads = {head.name: head for head in heads}
        self.places = places
        self.threads = threads or cores()
        self.taken = 0
        self.left = 0
        """Requests that were taken, and never answered."""
        self.closing = False
        self.meters = Meters(lambda: self.taken)
        self._seconds = 0.1  # of a request, at first by guess
        self._busy = 0
        self._counting = Lock()
        self._turns = count()
        places_of_work = [(device, self._batching(device)) for device in devices]
        self.runs = {head.name: [_runner(head, *each) for each in places_of_work] for head in heads}
        """Of each head, one a device."""
        self._torch_threads = torch.get_num_threads()
        # A thread's first look at torch's number takes what others have set: later it would undo our own.
        self._pool = ThreadPoolExecutor(self.threads, "undistill", initializer=torch.get_num_threads)

    def _batching(self, device: torch.device) -> Together | None:
        return None if device.type == "cpu" else Together(TOGETHER, self.meters.batches.observe)

    def head(self, name: str | None) -> ServedHead:
        """Raises:
        Problem: it is not served.
        """
        if name is None:
            return next(iter(self.heads.values()))
        if name not in self.heads:
            raise Problem("invalid", f"There is no such head: take one of {', '.join(self.heads)}.")
        return self.heads[name]

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, for as long as the block lasts.

        Raises:
            Problem: none is free, or the service is ending.
        """
        if self.closing:
            raise Problem("closing", "The service is ending: ask again, or ask another.", retry_after="5")
        if self.taken >= self.places:
            wait = max(1, ceil(self._seconds * self.taken / self.threads))
            raise Problem("full", f"All {self.places} places are taken: ask again in {wait} s.", retry_after=str(wait))
        self.taken += 1
        try:
            yield
        except asyncio.CancelledError:  # the server ends, and doesn't wait any more
            self.left += 1
            raise
        finally:
            self.taken -= 1

    async def enhance(
        self, head: str, data: bytes, wanted: Change, how: Encoding, same_kind: bool, label: Label | None
    ) -> Enhanced:
        """See `enhance_bytes`; `head` by its name."""
        return await self.do(lambda: enhance_bytes(data, self.run_on(head), wanted, how, same_kind, label))

    async def faces(self, data: bytes) -> list[Box]:
        """See `boxes_in`."""
        return await self.do(partial(boxes_in, data))

    async def do(self, function: Callable[[], Result], threads: Executor | None = None) -> Result:
        """What the function gives, from one of the threads. Cancelled before its turn comes, it is not called.

        Args:
            threads: others than those that enhance.
        """
        asked = time.perf_counter()
        box = [function]  # emptied, it holds no image any more, even while the pool still has it

        def call() -> Result:
            begun = time.perf_counter()
            with self._counting:
                self._busy += 1
                share = max(1, self._torch_threads // self._busy)
            try:
                torch.set_num_threads(share)  # alone it gets all; the pixels are the same
                return box[0]()
            finally:
                took = time.perf_counter() - begun
                with self._counting:
                    self._busy -= 1
                self.worked(begun - asked, took)

        try:
            return await asyncio.get_running_loop().run_in_executor(threads or self._pool, call)
        except asyncio.CancelledError:
            box.clear()
            raise

    def worked(self, waited: float, took: float) -> None:
        """A request has been worked on.

        Args:
            waited: seconds before its turn came.
            took: seconds from then on.
        """
        with self._counting:
            self._seconds += (took - self._seconds) / 10
        self.meters.seconds.labels("wait").observe(waited)
        self.meters.seconds.labels("work").observe(took)

    def run_on(self, head: str) -> Run:
        """A head on one of the devices, one after another."""
        runs = self.runs[head]
        return runs[next(self._turns) % len(runs)]

    def close(self) -> None:
        """Take nothing more."""
        self.closing = True

    def end(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _runner(head: ServedHead, device: torch.device, together: Together | None) -> Run:
    enhancer = Enhancer(head.folder, device, backend=head.backend)
    return enhancer if together is None else partial(together, enhancer)
