"""From a request to a head and what it is worth."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from undistill.base.errors import UsageError
from undistill.base.progress import watched
from undistill.fit.budget import Amounts, Speeds, afford, refuse_hopeless
from undistill.fit.evidence import Choice, choose_recipe, known_pair_seconds
from undistill.fit.facts import Facts, drawing_facts, image_facts, recipe_facts, time_facts
from undistill.fit.finish import Outcome, finish, read_measured
from undistill.fit.here import (
    batch_of,
    first_pairs,
    measure_speeds,
    refuse_full,
    refuse_pair,
    steps_of,
    training_of,
)
from undistill.fit.page import Progress
from undistill.fit.plan import ALL, FitPlan, Training, drawing, row_name
from undistill.fit.request import EFFORTS, Request, keep, kept_as, read_kept
from undistill.fit.source import Images, drawn_pairs, find_images, large_enough, open_images, refuse_few
from undistill.pairs.plan import PairsPlan
from undistill.pairs.plan import plan as plan_pairs
from undistill.report.verdict import gap_missing
from undistill.steps import PlanStep, begin_plan, is_done, read_plan, run_steps

Run = Callable[[Sequence[str]], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """What a request comes to on this machine, before anything is drawn.

    Args:
        steps: the recipe's own.
        made: what drawing takes; None: nothing is to be drawn.
        about: the recipe, and why.
    """

    request: Request
    images: Images
    choice: Choice
    training: Training
    steps: int
    made: PairsPlan | None
    about: Facts

    @classmethod
    def of(cls, request: Request) -> "Task":
        """Raises:
        UsageError: there are no such images, too few, the GPU is too small, or the budget, as far as that is known.
        """
        refuse_few(request.count)
        images = find_images(request)
        choice = choose_recipe(images.size, pairs=images.paired)
        training, recipe, large = training_of(choice, images.size)
        images = large_enough(images, request, training.min_side)
        count = images.there or request.count or EFFORTS[request.quality].pairs
        made = None if images.spec is None else plan_pairs(images.spec, count, batch_of(images.spec))
        if request.budget is not None:
            known = None if images.spec is None else known_pair_seconds(images.spec.name)
            refuse_hopeless(request.budget, known[0] if known else 0.0)
        about = recipe_facts(choice, training.recipe, large)
        return cls(request, images, choice, training, steps_of(recipe, count), made, about)

    @property
    def batch(self) -> int:
        """Images that are drawn at a time."""
        return self.made.batch if self.made is not None else 0

    def plan(self, amounts: Amounts, name: str) -> FitPlan:
        """What is run for so much of it."""
        images = self.images
        return FitPlan(self.request, amounts.pairs, images.paired, amounts.steps, self.training, self.batch, name)

    def facts(self, count: int, out: Path) -> Facts:
        """Of so many images."""
        facts = image_facts(self.images, count)
        return facts | (drawing_facts(self.made, count, out) if self.made is not None else {}) | self.about


def planned(request: Request, out: Path) -> tuple[Facts, PairsPlan | None, int]:
    """What `fit` would do, by estimates; nothing is drawn, downloaded or written.

    Returns: the plan in words, what drawing takes, and the steps of training.

    Raises:
        UsageError: as of `fit`.
    """
    kept = read_kept(out, request)
    task = Task.of(request)
    count = task.images.there or (0 if task.made is None else task.made.count)
    if task.made is not None:
        refuse_full(out, task.made.storage, count)
    if "speeds" not in kept:  # they are measured when it is begun
        return task.facts(count, out), task.made, EFFORTS[request.quality].steps(task.steps)
    speeds = kept_as(Speeds, kept["speeds"], out)
    amounts = afford(request, speeds, task.steps, drawn_pairs(out), task.images.there)
    return task.facts(amounts.pairs, out) | time_facts(amounts, speeds, ALL), task.made, amounts.steps


def fit(request: Request, out: Path, undistill: Run, say: Say, show: Callable[[Facts], None]) -> Outcome:
    """Make a head, or go on.

    Args:
        request: its paths are whole ones.
        out: a folder for all of it; index.html shows how it goes, and what came of it.
        undistill: runs a command in the working folder; what goes wrong is raised.
        say: is told each command before it runs.
        show: is told the plan, before anything but the first pairs is drawn.

    Raises:
        UsageError, Failure: in a line; before anything is drawn where that can be known.
    """
    kept = read_kept(out, request)
    task = Task.of(request)
    if task.made is not None and not kept:
        if request.budget is None or request.count is not None:  # else the budget says how many
            refuse_full(out, task.made.storage, task.made.count)
        refuse_pair(task.made)
    out.mkdir(parents=True, exist_ok=True)
    with chdir(out):  # as of `reproduce`: commands have paths from there
        page = Progress(Path(), row_name(Path()))
        with _ends_on(page), watched(page.moved):
            amounts, speeds = _decided(task, kept, page, undistill, say)
            plan = task.plan(amounts, page.title)
            page.facts = task.facts(amounts.pairs, Path()) | time_facts(amounts, speeds, _parts_left(plan))
            show(page.facts)
            if task.made is not None:
                left = max(0, amounts.pairs - drawn_pairs(Path()))
                refuse_full(Path(), task.made.storage / task.made.count * left, left)
            _run(plan.all_steps(), page, undistill, say, lambda step: step == plan.measuring_gap() and _no_gap(plan))
            return finish(plan, page, out, trained=not _no_gap(plan))


def _parts_left(plan: FitPlan) -> set[str]:
    """Stages of which something is still to be done; none, where no gap was found to be closed."""
    known = read_plan(Path())
    if is_done(known, plan.measuring_gap(), Path()) and _no_gap(plan):
        return set()
    return {step.part for step in plan.all_steps() if not is_done(known, step, Path())}


def _no_gap(plan: FitPlan) -> bool:
    return gap_missing(read_measured(plan.gap)["rows"]) is not None


def _decided(task: Task, kept: dict[str, Any], page: Progress, undistill: Run, say: Say) -> tuple[Amounts, Speeds]:
    """How many pairs and steps: as before where the same is asked, else by what the first pairs take."""
    request, here = task.request, Path()
    if kept.get("effort") == request.effort and "amounts" in kept:
        return kept_as(Amounts, kept["amounts"], here), kept_as(Speeds, kept.get("speeds"), here)
    have = drawn_pairs(here)
    if "speeds" in kept:
        speeds = kept_as(Speeds, kept["speeds"], here)
    else:
        first = first_pairs(task.batch)
        steps = drawing(request, first, task.batch)
        begin_plan(here, steps, grows=True)
        keep(here, request)
        _run(steps, page, undistill, say)
        speeds = measure_speeds(open_images(request), task.training, task.images, task.images.there or first)
        have = 0  # the first ones are the beginning of a shard, and drawn again with it
    amounts = afford(request, speeds, task.steps, have, task.images.there)
    keep(here, request, speeds=asdict(speeds), amounts=asdict(amounts))
    return amounts, speeds


def _run(
    steps: Sequence[PlanStep],
    page: Progress,
    undistill: Run,
    say: Say,
    ends: Callable[[PlanStep], bool] = lambda step: False,
) -> None:
    """Run steps, each shown on the page; they end after one for which `ends`."""
    begin_plan(page.out, steps, grows=True)
    page.steps = steps

    def run(command: Sequence[str]) -> None:
        page.begin(command)
        undistill(command)

    run_steps(page.out, steps, run, say, ends)


@contextmanager
def _ends_on(page: Progress) -> Iterator[None]:
    """What ends a fit early stands on its page."""
    try:
        yield
    except BaseException as error:
        ended = isinstance(error, KeyboardInterrupt | SystemExit)
        why = "It was interrupted." if ended else str(error) or type(error).__name__
        with suppress(OSError, UsageError):
            page.stopped(why)
        raise
