"""The page of a fit: while it runs, how far it has come; at its end, what the head is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from undistill.base.progress import HowFar
from undistill.metrics.results import versions
from undistill.report import write_html
from undistill.report.pictures import Triple, data_uri, embedded
from undistill.report.table import make_chart, make_table
from undistill.report.verdict import Verdict
from undistill.report.words import duration, identity_sentence
from undistill.steps import PlanStep, as_line, is_done, read_plan

PAGE = "index.html"
EVERY_S = 2.0
"""The page is written anew no more often."""
RELOADED_S = 3
"""While it runs, the page loads itself again after so long."""


@dataclass(frozen=True)
class StageLine:
    """A command as the page shows it: done, running or waiting."""

    command: str
    state: str
    took: str
    what: str = ""
    share: float = 0.0
    """Of the running one, that is done, in percent."""
    left: str = ""


@dataclass
class Progress:
    """How a fit goes, in OUT/index.html.

    Args:
        out: the folder.
        title: what is made.
        facts: what is planned, term by term.
    """

    out: Path
    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[PlanStep] = ()
    _running: str = ""
    _written: float = 0.0

    def begin(self, command: Sequence[str]) -> None:
        """A command of the steps begins."""
        self._running = as_line(PlanStep("", "", tuple(command)))
        self._write(None)

    def moved(self, far: HowFar) -> None:
        """A bar of it has moved."""
        if monotonic() - self._written >= EVERY_S:
            self._write(far)

    def stopped(self, why: str) -> None:
        """It ended before its end."""
        self._write(None, stopped=why)

    def finished(
        self, verdict: Verdict, results: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]], head: str | None,
        next_up: Sequence[str], shown: Sequence[Triple], sheet: Path | None,
    ) -> None:  # fmt: skip
        """The whole page, from what results.json holds.

        Args:
            others: the same as further extractors see it, by their names.
            head: its row; None: none was trained.
            next_up: commands to go on with.
            shown: persons.
            sheet: the picture of them.
        """
        rows, settings = results["rows"], results["settings"]
        self._running = ""
        self._draw(
            verdict=verdict,
            person=identity_sentence(rows, head) if head else "",
            charts={name: make_chart(seen["rows"]) for name, seen in {settings["features"]: results, **others}.items()},
            table=make_table(rows, settings),
            measured=settings,
            next_up=next_up,
            shown=shown,
            sheet=embedded(sheet) if sheet and not shown else "",
            head=head,
        )

    def _write(self, far: HowFar | None, stopped: str = "") -> None:
        self._written = monotonic()
        self._draw(verdict=None, far=far, stopped=stopped)

    def _draw(self, verdict: Verdict | None, far: HowFar | None = None, stopped: str = "", **parts: Any) -> None:
        write_html(
            "fit.html",
            self.out / PAGE,
            title=f"undistill fit: {self.title}",
            name=self.title,
            facts=self.facts,
            lines=self._lines(far),
            stopped=stopped,
            refresh=0 if verdict or stopped else RELOADED_S,
            verdict=verdict,
            grid=self._grid() if not verdict else "",
            settings={"date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")},
            versions=versions(),
            data_uri=data_uri,
            **parts,
        )

    def _lines(self, far: HowFar | None) -> list[StageLine]:
        plan = read_plan(self.out) if self.steps else {"done": {}}
        lines = []
        for step in self.steps:
            command = as_line(step)
            if is_done(plan, step, self.out):
                took = duration(plan["done"][step.makes]["seconds"])
                lines.append(StageLine(command, "done", took, share=100.0))
            elif command != self._running:
                lines.append(StageLine(command, "waiting", ""))
            elif far is None or not far.total:
                lines.append(StageLine(command, "running", ""))
            else:
                left = "" if far.left is None else f"{duration(far.left)} left"
                share = round(100 * far.done / far.total, 1)
                lines.append(StageLine(command, "running", f"{far.done:,} of {far.total:,}", far.what, share, left))
        return lines

    def _grid(self) -> str:
        """The newest pictures of the training, by their path from the page."""
        grids = sorted(self.out.glob("runs/*/samples/*.png"), key=lambda path: path.stat().st_mtime)
        return grids[-1].relative_to(self.out).as_posix() if grids else ""
