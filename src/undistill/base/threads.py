"""A function of many items, on all cores, and what its threads can't share, or not all at once."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int | None = None,
    give_up: Callable[[], object] = lambda: None,
) -> Generator[Result, None, None]:
    """The function's results in the order of the items, as soon as may be; a few are worked on ahead.

    The items are taken in the caller's thread, so that what makes them overlaps with the function.

    The threads have one of torch's own each: images are too small to keep several busy. The function must bear that,
    and spend its time outside of Python. Any number of these may be open at once.

    Args:
        threads: how many; None: as many as torch uses here.
        give_up: called where it ends early, by an error or Ctrl-C, before what is begun is waited for.
    """
    import torch  # takes seconds

    before = torch.get_num_threads()
    threads = threads or before
    ahead: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, initializer=_take_one)
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            while ahead and (len(ahead) > 2 * threads or ahead[0].done()):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BaseException:
        give_up()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # it is also what threads that begin later take


def _take_one() -> None:
    """This thread's own number; the caller's stays as it is."""
    import torch

    torch.get_num_threads()  # the first call in a thread takes what others have set last: later it would undo ours
    torch.set_num_threads(1)


class Spare(Generic[Item]):
    """What only one thread at a time may use: each takes one that is free, or makes another.

        with spare() as model: ...

    One a thread would be made anew by each `spread`.
    """

    def __init__(self, make: Callable[[], Item]) -> None:
        self._make = make
        self._free: list[Item] = []

    @contextmanager
    def __call__(self) -> Iterator[Item]:
        try:
            item = self._free.pop()  # asked for first whether there is one, another thread might take it meanwhile
        except IndexError:
            item = self._make()
        try:
            yield item
        finally:
            self._free.append(item)


class Room:
    """Lets threads in while all that they carry has room; what is larger than the whole goes in alone.

        with room(load): ...

    Args:
        size: in the unit of the loads; 0: one at a time.
    """

    def __init__(self, size: float) -> None:
        self._size = size
        self._loads: list[float] = []
        self._changed = Condition()

    @contextmanager
    def __call__(self, load: float) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._loads or sum(self._loads) + load <= self._size)
            self._loads.append(load)
        try:
            yield
        finally:
            with self._changed:
                self._loads.remove(load)
                self._changed.notify_all()
