"""Batches of files: images of one size go through a head together, on a GPU.

Which are together hangs on the list of files alone, so that a run that was interrupted ends with the same bytes.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from itertools import groupby
from threading import Lock
from typing import TypeVar

import numpy as np

from undistill.enhance.backends.captured import PIXELS
from undistill.enhance.change import Run
from undistill.images import Pixels

MOST = 16
"""Images of a batch, of which each is decoded and encoded by a thread of its own."""

Item = TypeVar("Item")


def by_size(items: Iterable[Item], size: Callable[[Item], tuple[int, int] | None]) -> list[list[Item]]:
    """The items in batches of one size, up to as many as have PIXELS together.

    Args:
        size: px of an item; None: it stays alone.
    """
    batches: list[list[Item]] = []
    open_batches: dict[tuple[int, int], list[Item]] = {}
    for item in items:
        sides = size(item)
        batch = open_batches.get(sides) if sides else None
        if batch is None:
            batch = []
            batches.append(batch)
        batch.append(item)
        if sides and len(batch) < min(MOST, PIXELS // (sides[0] * sides[1])):
            open_batches[sides] = batch
        elif sides:
            open_batches.pop(sides, None)
    return batches


Asked = tuple[Pixels, float, Future[Pixels]]
"""An image (H, W, 3), its strength, and where the enhanced one is waited for."""


def answer(run: Run, asked: Sequence[Asked]) -> None:
    """Run images of one size and strength as one batch, and give each of those who asked its own, or what went wrong.

    Args:
        run: takes (N, H, W, 3).
    """
    try:
        made = run(np.stack([pixels for pixels, *_ in asked]), asked[0][1])
    except Exception as error:  # of a batch's memory, for one
        for *_, future in asked:
            future.set_exception(error)
    else:
        for (*_, future), pixels in zip(asked, made, strict=True):
            future.set_result(pixels)


class Together:
    """Runs what its members ask for, each in a thread of its own, when each of them has asked or left.

    Args:
        run: takes (N, H, W, 3).
        members: how many; they are numbered.
    """

    def __init__(self, run: Run, members: int) -> None:
        self._run = run
        self._there = members
        self._asked: dict[int, Asked] = {}
        self._lock = Lock()

    def ask(self, member: int, pixels: Pixels, strength: float) -> Pixels:
        """The enhanced image of one, (H, W, 3); it waits for the others."""
        future: Future[Pixels] = Future()
        with self._lock:
            self._asked[member] = pixels, strength, future
        self._go_on()
        return future.result()

    def leave(self) -> None:
        """One asks for nothing more."""
        with self._lock:
            self._there -= 1
        self._go_on()

    def _go_on(self) -> None:
        with self._lock:
            if len(self._asked) < self._there:
                return
            asked, self._asked = [self._asked[member] for member in sorted(self._asked)], {}
        # What turns upright has another size than its header says.
        kinds = sorted(asked, key=lambda each: (each[0].shape, each[1]))
        for _, alike in groupby(kinds, lambda each: (each[0].shape, each[1])):
            answer(self._run, list(alike))
