"""Who is let in: places before whoever does the work, here (`work`) or on a cluster (`ray`)."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil

from undistill.enhance.bytes import Enhanced
from undistill.enhance.change import Change
from undistill.enhance.provenance import Label
from undistill.images import Encoding
from undistill.serve.faces import Box
from undistill.serve.heads import ServedHead
from undistill.serve.meters import Meters
from undistill.serve.problems import Problem


class Queue(ABC):
    """A bounded number of places, before those who do the work.

    Args:
        heads: that may be asked for; the first is taken where a request names none.
        places: requests that are read, wait or are worked on at a time.
        hands: requests that are worked on at a time.
    """

    def __init__(self, heads: Sequence[ServedHead], places: int, hands: int) -> None:
        self.heads = {head.name: head for head in heads}
        self.places = places
        self.hands = hands
        self.taken = 0
        self.left = 0
        """Requests that were taken, and never answered."""
        self.closing = False
        self.meters = Meters(lambda: self.taken)
        self._seconds = 0.1  # of a request, at first by guess

    @abstractmethod
    async def enhance(
        self, head: str, data: bytes, wanted: Change, how: Encoding, same_kind: bool, label: Label | None
    ) -> Enhanced:
        """See `enhance_bytes`; `head` by its name. Cancelled before its turn comes, it is not computed."""

    @abstractmethod
    async def faces(self, data: bytes) -> list[Box]:
        """See `boxes_in`."""

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
            wait = max(1, ceil(self._seconds * self.taken / self.hands))
            raise Problem("full", f"All {self.places} places are taken: ask again in {wait} s.", retry_after=str(wait))
        self.taken += 1
        try:
            yield
        except asyncio.CancelledError:
            self.left += self.closing  # the server doesn't wait any more; else the client doesn't
            raise
        finally:
            self.taken -= 1

    def worked(self, waited: float, took: float) -> None:
        """A request has been worked on.

        Args:
            waited: seconds before its turn came.
            took: seconds from then on.
        """
        self._seconds += (took - self._seconds) / 10
        self.meters.seconds.labels("wait").observe(waited)
        self.meters.seconds.labels("work").observe(took)

    def close(self) -> None:
        """Take nothing more."""
        self.closing = True
