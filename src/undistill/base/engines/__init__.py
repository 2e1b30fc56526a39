"""Engines: who calls a stage's unit of work, and where. What the work is, and what it makes, is the stage's alone.

A unit is a task (a shard, an image); its `work` is the same function on every engine, called with the task and the tool
(a generator, an enhancer) that each worker makes once. Work reads and writes files itself: what it yields is small, an
update on how it goes.

Engines: `local.in_process`, `local.in_threads(alone)`, `local.in_processes(workers)`, and
`ray.on_ray(workers, address, gpus)`.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, TypeVar

Task = TypeVar("Task")
Tool = TypeVar("Tool")
Update = TypeVar("Update")

Maker = Callable[[], Tool]
"""Makes the tool, in each worker, when its first task comes: it has to be importable there, like `partial(f, x)`."""
Work = Callable[[Task, Tool], Iterator[Update]]
"""Does a task, and yields updates as it goes. What goes wrong is raised as a UsageError or a Failure."""


class Engine(Protocol):
    """Does the tasks, in any order, and yields their updates as they come. Closed, it leaves no worker behind.

    A task that is done again, because its worker was killed, may yield updates twice.

    Raises:
        UsageError, Failure: those of `work` and `maker`; or workers can't be had, or were killed.
        OSError: those of `work` and `maker`, a full disk for one.
    """

    def __call__(
        self, tasks: Sequence[Any], maker: Maker[Any], work: Work[Any, Any, Update], /
    ) -> Generator[Update, None, None]: ...
