"""Run the plan, step by step, and put what it found together."""

import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from undistill.base.errors import UsageError
from undistill.metrics.results import versions, write_json
from undistill.reproduce.plan import PlanStep

PLAN = "plan.json"


def begin_plan(out: Path, steps: Sequence[PlanStep]) -> None:
    """Begin a folder, or go on in one that was begun with the same plan.

    Raises:
        UsageError: the folder holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; -o takes a folder")
    wanted = {"undistill": versions()["undistill"], "steps": [json.loads(json.dumps(asdict(step))) for step in steps]}
    file = out / PLAN
    if not file.exists():
        if out.exists() and any(out.iterdir()):
            raise UsageError(f"{out} holds other files: choose another folder for -o")
        out.mkdir(parents=True, exist_ok=True)
        write_json({**wanted, "done": {}}, file)
        return
    plan = _read(file)
    if {key: plan.get(key) for key in wanted} != wanted:
        raise UsageError(f"{out} was begun with other options: give the same ones, or choose another folder for -o")


def run_steps(
    out: Path, steps: Sequence[PlanStep], undistill: Callable[[Sequence[str]], None], say: Callable[[str], None]
) -> None:
    """Run the steps that are not done yet, inside `out`. A step that was cut off goes on as its command does.

    Args:
        undistill: runs a command in the working folder; what goes wrong is raised.
        say: is told each command before it runs.
    """
    plan = _read(out / PLAN)
    for number, step in enumerate(steps, start=1):
        if step.makes in plan["done"] and (out / step.makes).exists():
            continue
        say(f"[{number} of {len(steps)}] {as_line(step)}")
        start, before = time.monotonic(), plan.setdefault("spent", {}).get(step.makes, 0.0)
        try:
            undistill(step.command)
        finally:  # a step that is cut off goes on later: its time is that of all attempts
            plan["spent"][step.makes] = round(before + time.monotonic() - start, 1)
            write_json(plan, out / PLAN)
        plan["done"][step.makes] = {
            "seconds": plan["spent"].pop(step.makes),
            "date": datetime.now(UTC).date().isoformat(),
        }
        write_json(plan, out / PLAN)


def as_line(step: PlanStep) -> str:
    """The command, as it is typed."""
    return shlex.join(("undistill", *step.command))


def _read(file: Path) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} can't be read: choose another folder for -o") from error
    return plan
