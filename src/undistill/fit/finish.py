"""What came of a fit: the verdict, metrics.json, the sheet, the head's place, and what to run next."""

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undistill.base.errors import UsageError
from undistill.fit.page import Progress
from undistill.fit.plan import FitPlan
from undistill.fit.sheet import SHEET, write_sheet
from undistill.metrics.results import read_results, versions, write_json
from undistill.report.verdict import Verdict, gap_missing, judge

METRICS, HEAD = "metrics.json", "head"


@dataclass(frozen=True)
class Outcome:
    """What came of it, and commands to go on with, from the caller's folder."""

    verdict: Verdict
    next_up: Sequence[str]


def finish(plan: FitPlan, page: Progress, out: Path, *, trained: bool) -> Outcome:
    """Judge what was measured, and write it all down in the working folder.

    Args:
        out: how the caller calls the folder.
        trained: whether there is a head; else it ended before.
    """
    results = read_measured(plan.results, plan.name) if trained else read_measured(plan.gap)
    if trained:
        others = {features: read_measured(path, plan.name) for features, path in plan.seen_by.items()}
        verdict = judge(results["rows"], plan.name, {features: seen["rows"] for features, seen in others.items()})
        head, next_up = plan.name, next_commands(out, plan.name)
        _copy_head(Path(plan.run) / HEAD, Path(HEAD))
        shown = write_sheet(plan, Path(SHEET))
    else:
        verdict, head, shown, next_up, others = _no_gap(results), None, [], [], {}
        shutil.rmtree(HEAD, ignore_errors=True)  # of fewer images, by which a gap was seen; its run stays
        Path(SHEET).unlink(missing_ok=True)
    write_json(_metrics(plan, verdict, results, others, trained=trained), Path(METRICS))
    page.finished(verdict, results, others, head, next_up, shown, Path(SHEET) if trained else None)
    return Outcome(verdict, next_up)


def read_measured(path: str, head: str | None = None) -> dict[str, Any]:
    """What `undistill evaluate` wrote.

    Args:
        head: the row that there must be.

    Raises:
        UsageError: it is broken.
    """
    advice = "delete it, and the same command makes it again"
    results = read_results(Path(path), advice)
    rows, settings = results["rows"], results["settings"]
    whole = "student" in settings.get("images", {}) and "baselines" in settings and head in (None, *rows)
    if not whole or any("gap_closed" not in row for row in rows.values()):
        raise UsageError(f"{path} is broken: {advice}")
    return results


def next_commands(out: Path, name: str) -> list[str]:
    """What to do with the head, from the caller's folder."""
    head = shlex.quote(str(out / HEAD))
    pushed = f"from undistill.heads import Head; Head.from_pretrained({str(out / HEAD)!r}).push_to_hub('OWNER/NAME')"
    return [
        f"undistill enhance PICTURES -o enhanced --head {head}",
        f"undistill serve --head {head}",
        f"cp -r {head} COMFYUI/models/undistill/{shlex.quote(name)}",
        f"python -c {shlex.quote(pushed)}",
    ]


def _no_gap(results: dict[str, Any]) -> Verdict:
    why, n = gap_missing(results["rows"]), results["settings"]["images"]["student"]
    return Verdict(
        "no gap",
        f"Nothing was trained: {why} (n = {n}). More pairs may tell them apart, or there is nothing to gain here.",
    )


def _metrics(
    plan: FitPlan, verdict: Verdict, results: dict[str, Any], others: dict[str, dict[str, Any]], *, trained: bool
) -> dict[str, Any]:
    """What metrics.json holds."""
    rows = results["rows"]
    return {
        "outcome": verdict.outcome,
        "says": verdict.says,
        "instead": verdict.instead,
        "head": f"{plan.run}/{HEAD}" if trained else None,
        "rows": {name: {m: row[m] for m in ("gap_closed", "identity") if m in row} for name, row in rows.items()},
        "seen_by": {
            features: {name: row["gap_closed"] for name, row in seen["rows"].items() if "gap_closed" in row}
            for features, seen in others.items()
        },
        "filters": results["settings"]["baselines"],
        "images": plan.images,
        "measured": plan.parts.measured,
        "recipe": plan.training.recipe,
        "changes": {**plan.training.changes, "steps": plan.steps},
        "results": plan.results if trained else plan.gap,
        "versions": versions(),
    }


def _copy_head(head: Path, to: Path) -> None:
    """The head where it is easily found, whichever run made it."""
    beside = to.with_name(f".{to.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(head, beside)
    shutil.rmtree(to, ignore_errors=True)
    beside.rename(to)
