"""A device's own thread: it runs images of one size that wait together through a head together."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition, Thread

from undistill.enhance import Enhancer
from undistill.enhance.batches import Asked, answer
from undistill.images import Pixels

_Item = tuple[Enhancer, Asked]


class Together:
    """Runs what many threads ask for in one, images of the same size, head and strength as one batch.

    None waits for another to come: a batch is what had come while the one before was computed.

    Args:
        most: images of a batch.
        told: is told the size of each batch.
    """

    def __init__(self, most: int, told: Callable[[int], object]) -> None:
        self.most = most
        self._told = told
        self._waiting: list[_Item] = []
        self._changed = Condition()
        Thread(target=self._run, daemon=True, name="undistill-device").start()

    def __call__(self, enhancer: Enhancer, pixels: Pixels, strength: float) -> Pixels:
        """The enhanced image, (H, W, 3) uint8; the caller's thread waits for it."""
        future: Future[Pixels] = Future()
        with self._changed:
            self._waiting.append((enhancer, (pixels, strength, future)))
            self._changed.notify()
        return future.result()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                kind = _kind(self._waiting[0])
                batch = [item for item in self._waiting if _kind(item) == kind][: self.most]
                taken = {id(item) for item in batch}
                self._waiting = [item for item in self._waiting if id(item) not in taken]
            self._told(len(batch))
            answer(batch[0][0], [asked for _, asked in batch])


def _kind(item: _Item) -> tuple[int, tuple[int, ...], float]:
    enhancer, (pixels, strength, _) = item
    return id(enhancer), pixels.shape, strength
