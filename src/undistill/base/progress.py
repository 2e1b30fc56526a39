"""The progress bar of every long command."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from undistill.base.output import QUIET

Item = TypeVar("Item")


@dataclass(frozen=True)
class HowFar:
    """How far what a bar counts has come.

    Args:
        what: the bar's words.
        done, total: in its unit.
        left: seconds, as the last few of its items took; None: not known yet.
    """

    what: str
    done: int
    total: int
    left: float | None


Watcher = Callable[[HowFar], None]
_watchers: list[Watcher] = []


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Inside, the watcher is told how far each bar of this process has come, whenever one moves, shown or not."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


class Bar:
    """A running bar: `advance` it, with a few words on how it goes."""

    def __init__(self, what: str, progress: Progress, task: TaskID) -> None:
        self._what = what
        self._progress = progress
        self._task = task

    def advance(self, words: str = "", by: int = 1) -> None:
        """Count `by` more as done, and show `words` behind the bar."""
        speed = self._progress.tasks[0].speed
        rate = "" if not speed else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
        self._progress.update(self._task, advance=by, rate=rate, words=words)
        task = self._progress.tasks[0]
        for watcher in _watchers:
            watcher(HowFar(self._what, int(task.completed), int(task.total or 0), task.time_remaining))

    def show_words(self, words: str) -> None:
        """Show `words` behind the bar."""
        self._progress.update(self._task, words=words)


class _Words(ProgressColumn):
    """What is cut in a narrow terminal, where rich would squeeze all columns, the time left too."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["words"], no_wrap=True, overflow="ellipsis")


_running: list[Bar] = []


def show_words(words: str) -> None:
    """Show words behind the bar that is running, if there is one: how far the item at hand has come."""
    if _running:
        _running[-1].show_words(words)


@contextmanager
def progress(what: str, total: int, done: int = 0, *, shown: bool = True) -> Iterator[Bar]:
    """A bar on standard error with count, rate, time taken and time left."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
        _Words(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=QUIET.get() or not shown) as display:
        bar = Bar(what, display, display.add_task(what, total=total, completed=done, rate="", words=""))
        _running.append(bar)
        try:
            yield bar
        finally:
            _running.remove(bar)


def progressed(
    what: str, items: Iterable[Item], total: int | None = None, *, shown: bool = True
) -> Generator[Item, None, None]:
    """The items, one after another, with a bar that counts those that are through.

    A loop that an error leaves ends its bar; a comprehension's would live as long as the error, and be drawn below its
    line: there `contextlib.closing` ends it.

    Args:
        total: how many there are; None: as many as the length of `items`.
    """
    with progress(what, len(items) if isinstance(items, Sized) else total or 0, shown=shown) as bar:
        for item in items:
            yield item
            bar.advance()
