"""A plan of the project's own commands, in order, each with what it makes: run so that a killed run goes on."""

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, NonNegativeFloat, ValidationError

from undistill.base.errors import UsageError
from undistill.metrics.results import read_json, versions, write_json
from undistill.pairs.spec import PairSpec, read_spec

PLAN = "plan.json"


@dataclass(frozen=True)
class PlanStep:
    """A command.

    Args:
        part: of the page, that it is for.
        makes: a file or folder.
        command: after `undistill`.
    """

    part: str
    makes: str
    command: tuple[str, ...]


def plan_step(part: str, makes: str, *command: str | int | Path) -> PlanStep:
    """A step from the words of its command."""
    return PlanStep(part, makes, tuple(map(str, command)))


def begin_plan(out: Path, steps: Sequence[PlanStep], *, grows: bool = False) -> None:
    """Begin a folder, or go on in one that was begun with the same plan.

    Args:
        grows: a plan of other steps may take the place of the one that is there. What is done of both stays done.

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
    plan = read_plan(out)
    if {key: plan.get(key) for key in wanted} == wanted:
        return
    if grows:
        write_json({**plan, **wanted}, file)
    else:
        raise UsageError(f"{out} was begun with other options: give the same ones, or choose another folder for -o")


def run_steps(
    out: Path,
    steps: Sequence[PlanStep],
    undistill: Callable[[Sequence[str]], None],
    say: Callable[[str], None],
    ends: Callable[[PlanStep], bool] = lambda step: False,
) -> None:
    """Run the steps that are not done yet, inside `out`. A step that was cut off goes on as its command does.

    Args:
        undistill: runs a command in the working folder; what goes wrong is raised.
        say: is told each command before it runs.
        ends: whether what a step found makes those after it useless; asked of each that is done.
    """
    plan = read_plan(out)
    for number, step in enumerate(steps, start=1):
        if not is_done(plan, step, out):
            say(f"[{number} of {len(steps)}] {as_line(step)}")
            _run_step(out, step, plan, undistill)
        if ends(step):
            return


def _run_step(out: Path, step: PlanStep, plan: dict[str, Any], undistill: Callable[[Sequence[str]], None]) -> None:
    start, before = time.monotonic(), plan.setdefault("spent", {}).get(step.makes, 0.0)
    try:
        undistill(step.command)
    finally:  # a step that is cut off goes on later: its time is that of all attempts
        plan["spent"][step.makes] = round(before + time.monotonic() - start, 1)
        write_json(plan, out / PLAN)
    plan["done"][step.makes] = {
        "seconds": plan["spent"].pop(step.makes),
        "date": datetime.now(UTC).date().isoformat(),
        "command": as_line(step),
    }
    write_json(plan, out / PLAN)


def is_done(plan: Mapping[str, Any], step: PlanStep, out: Path) -> bool:
    """Whether the step is done by this very command, and what it makes is there."""
    done = plan["done"].get(step.makes)
    # Plans of before 2026-11-27 don't name the command; they hold one alone for what is made.
    return done is not None and done.get("command", as_line(step)) == as_line(step) and (out / step.makes).exists()


def as_line(step: PlanStep) -> str:
    """The command, as it is typed."""
    return shlex.join(("undistill", *step.command))


class _Done(BaseModel):
    seconds: NonNegativeFloat
    date: str
    command: str | None = None


class _Plan(BaseModel):
    """Of plan.json, what is read again."""

    done: dict[str, _Done]
    spent: dict[str, NonNegativeFloat] = {}


def read_plan(out: Path) -> dict[str, Any]:
    """What plan.json holds: the version, the steps, and what is done.

    Raises:
        UsageError: it can't be read.
    """
    advice = "choose another folder for -o"
    plan: dict[str, Any] = read_json(out / PLAN, advice)
    try:
        _Plan.model_validate(plan)
    except ValidationError as error:
        raise UsageError(f"{out / PLAN} is no plan of ours, or a broken one: {advice}") from error
    return plan


def pair_anywhere(pair: str | Path) -> tuple[PairSpec, str]:
    """A pair, and what names it in a command that runs in another folder.

    Raises:
        UsageError: no such pair, or one whose spec names something by a path relative to the caller's folder.
    """
    spec = read_spec(pair)
    if not Path(pair).is_file():
        return spec, str(pair)
    settings = spec.model_dump(exclude={"name"})
    for value in (settings["head"], *settings["student"].values(), *settings["teacher"].values()):
        if isinstance(value, str) and not Path(value).is_absolute() and Path(value).exists():
            raise UsageError(f"the pair {spec.name} names {value}, which is relative: write {Path(value).resolve()}")
    return spec, str(Path(pair).resolve())
