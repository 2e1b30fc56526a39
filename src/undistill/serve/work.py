"""Places, threads and heads: who is let in, who does the work, and with what."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import ceil
from threading import Lock
from typing import Any, TypeVar

import torch

from undistill.base.errors import UsageError
from undistill.base.machine import cores
from undistill.enhance import Enhancer
from undistill.enhance.change import Run
from undistill.heads.head import head_folder, head_hash, shipped_heads
from undistill.serve.meters import Meters
from undistill.serve.problems import Problem
from undistill.serve.together import Together

Result = TypeVar("Result")
TOGETHER = 8
"""Images of one size that a GPU computes at once. On a CPU it doesn't pay (docs/serve.md)."""


@dataclass(frozen=True)
class ServedHead:
    """A head that may be asked for.

    Args:
        name: as requests call it.
        hash: of configuration and weights: `head_hash`.
        about: what its card says, in Markdown: "summary" and "measured".
        facts: from its descriptor.
        runs: one a device.
    """

    name: str
    hash: str
    about: dict[str, str]
    facts: dict[str, Any]
    runs: Sequence[Run]


class Work:
    """A bounded queue before the threads that decode, enhance and encode.

    Args:
        heads: names as `--head` takes them; the first is taken where a request names none.
        devices: where each of them runs.
        places: requests that are read, wait or are worked on at a time.

    Raises:
        UsageError: no such head or device, or two heads of one name.
    """

    def __init__(self, heads: Sequence[str], devices: Sequence[torch.device], places: int) -> None:
        self.places = places
        self.closing = False
        self.meters = Meters(lambda: self.taken)
        self.taken = 0
        self._busy = 0
        self._counting = Lock()
        self._turns = count()
        self._seconds = 0.1  # of a request, at first by guess
        self._devices = [(device, self._batching(device)) for device in devices]
        self.heads: dict[str, ServedHead] = {}
        for name in heads:
            head = self._load(name)
            if head.name in self.heads:
                raise UsageError(f"--head: two are called {head.name}: write NAME=DIR")
            self.heads[head.name] = head
        self.threads, self._torch_threads = cores(), torch.get_num_threads()
        # A thread's first look at torch's number takes what others have set: later it would undo our own.
        self._pool = ThreadPoolExecutor(self.threads, "undistill", initializer=torch.get_num_threads)

    def _batching(self, device: torch.device) -> Together | None:
        return None if device.type == "cpu" else Together(TOGETHER, self.meters.batches.observe)

    def _load(self, text: str) -> ServedHead:
        name, equals, place = text.partition("=")
        folder = head_folder(place if equals else text)
        if not equals:
            name = text if text in shipped_heads() else folder.resolve().name if folder.exists() else text
        enhancers = [(Enhancer(folder, device), together) for device, together in self._devices]
        runs = [enhancer if together is None else partial(together, enhancer) for enhancer, together in enhancers]
        described = enhancers[0][0].head.descriptor
        facts = {
            "architecture": described.architecture,
            "parameters": described.parameters,
            "trained_at": described.trained_at,
            "gflop_512": described.gflop_512,
        }
        about = _about((folder / "README.md").read_text()) if text in shipped_heads() else {}
        return ServedHead(name, head_hash(folder), about, facts, runs)

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
        finally:
            self.taken -= 1

    async def do(self, function: Callable[[], Result]) -> Result:
        """What the function gives, from one of the threads. Cancelled before its turn comes, it is not called."""
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
                    self._seconds += (took - self._seconds) / 10
                self.meters.seconds.labels("wait").observe(begun - asked)
                self.meters.seconds.labels("work").observe(took)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except asyncio.CancelledError:
            box.clear()
            raise

    def run_on(self, head: ServedHead) -> Run:
        """The head on one of the devices, one after another."""
        return head.runs[next(self._turns) % len(head.runs)]

    def close(self) -> None:
        """Take nothing more."""
        self.closing = True

    def end(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _about(card: str) -> dict[str, str]:
    """A card's first words, and what it says was measured."""
    text = re.sub(r"<!--.*?-->", "", card.split("---\n", 2)[-1])  # where its figures are from
    _, _, text = text.partition("\n# ")
    summary = text.split("\n\n", 2)[1] if "\n\n" in text else ""
    _, _, measured = text.partition("\n## Measured\n")
    return {"summary": summary.strip(), "measured": measured.split("\n## ")[0].strip()}
