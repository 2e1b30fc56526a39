"""Threads and heads: who does the work here, and with what."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import count
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
from undistill.serve.queue import Queue
from undistill.serve.together import Together

Result = TypeVar("Result")
TOGETHER = 8
"""Images of one size that a GPU computes at once. On a CPU it doesn't pay (docs/serve.md)."""


class Work(Queue):
    """A queue before the threads that decode, enhance and encode.

    Args:
        heads, places: see `Queue`.
        devices: where each of the heads runs.
        threads: None: as many as there are cores.

    Raises:
        UsageError: a backend that can't run a head.
    """

    def __init__(
        self, heads: Sequence[ServedHead], devices: Sequence[torch.device], places: int, threads: int | None = None
    ) -> None:
        super().__init__(heads, places, threads or cores())
        self._busy = 0
        self._counting = Lock()
        self._turns = count()
        places_of_work = [(device, self._batching(device)) for device in devices]
        self.runs = {head.name: [_runner(head, *each) for each in places_of_work] for head in heads}
        """Of each head, one a device."""
        self._torch_threads = torch.get_num_threads()
        # A thread's first look at torch's number takes what others have set: later it would undo our own.
        self._pool = ThreadPoolExecutor(self.hands, "undistill", initializer=torch.get_num_threads)

    def _batching(self, device: torch.device) -> Together | None:
        return None if device.type == "cpu" else Together(TOGETHER, self.meters.batches.observe)

    async def enhance(
        self, head: str, data: bytes, wanted: Change, how: Encoding, same_kind: bool, label: Label | None
    ) -> Enhanced:
        return await self.do(partial(self.made, head, data, wanted, how, same_kind, label))

    async def faces(self, data: bytes) -> list[Box]:
        return await self.do(partial(boxes_in, data))

    def made(
        self, head: str, data: bytes, wanted: Change, how: Encoding, same_kind: bool, label: Label | None
    ) -> Enhanced:
        """See `enhance`; in the caller's thread."""
        return enhance_bytes(data, self.run_on(head), wanted, how, same_kind, label)

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

    def run_on(self, head: str) -> Run:
        """A head on one of the devices, one after another."""
        runs = self.runs[head]
        return runs[next(self._turns) % len(runs)]

    def end(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _runner(head: ServedHead, device: torch.device, together: Together | None) -> Run:
    enhancer = Enhancer(head.folder, device, backend=head.backend)
    return enhancer if together is None else partial(together, enhancer)
