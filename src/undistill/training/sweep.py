"""Sweeps: a grid over a recipe's values, each cell an ordinary training run.

    OUT/sweep.json          what is swept, and over which pairs
    OUT/sweep.db            which cells are begun and done, and what they came to: see `trials`
    OUT/STUDY/KEY=VALUE,... the cell's run folder

Any number of processes may work on one sweep. A cell belongs to whoever holds its lock, which the system takes back
from a process that dies: the next one then goes on with its trial and its run, from the last checkpoint.
"""

import json
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from math import nan
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock
from pydantic import Field, ValidationError
from rich.console import Console
from rich.text import Text

from undistill.base.device import pick_device
from undistill.base.errors import UsageError, first_line
from undistill.base.settings import Strict, explain_all, read_yaml
from undistill.base.table import Table
from undistill.dataset.samples import Sample
from undistill.dataset.shard import Pairs
from undistill.metrics.results import write_json
from undistill.training import trials
from undistill.training.loop import INTERRUPTED, Diverged
from undistill.training.recipe import Recipe, RecipeError, change_recipe, make_recipe, read_recipe
from undistill.training.run import cropping_of, train, validate_run
from undistill.training.sides import all_samples, sides_of
from undistill.training.whole import refuse_broken

GridValue = bool | int | float | Annotated[str, Field(pattern=r"^[\w.:-]+$")]
CellValues = dict[str, GridValue]

_STUDY_NAME = re.compile(r"\w[\w.:-]*")
"""Of a folder."""


class SweepRecipe(Strict):
    """One study of a sweep file."""

    recipe: str
    """The recipe that is varied, a path beside the sweep file."""
    title: str = ""
    changes: Annotated[CellValues, Field(alias="set", default_factory=dict)]
    """Changes to the recipe that all cells share, by dotted key."""
    grid: Annotated[dict[str, Annotated[list[GridValue], Field(min_length=1)]], Field(min_length=1)]
    """Values by dotted key: every combination is a cell."""


@dataclass(frozen=True)
class SweepStudy:
    """A recipe, and the grid that is laid over it."""

    name: str
    title: str
    recipe: Recipe
    grid: dict[str, list[GridValue]]

    def cells(self) -> list[CellValues]:
        """In the order of the grid as it is written."""
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]


def read_sweep(path: Path) -> list[SweepStudy]:
    """The studies of a sweep file, every cell of which has a recipe that can be followed.

    Raises:
        UsageError: a file can't be read, or a key or a value doesn't belong.
    """
    data = read_yaml(path)
    if not isinstance(data, dict) or not data:
        raise UsageError(f"sweep {path} names no study: write NAME: {{recipe: FILE, grid: {{KEY: [VALUE, ...]}}}}")
    studies = []
    for name, given in data.items():
        if not _STUDY_NAME.fullmatch(str(name)):
            raise UsageError(
                f"sweep {path}: a study can't be called {str(name)!r}, as its folder is: write letters, digits, _ . : -"
            )
        try:
            asked = SweepRecipe.model_validate(given)
        except ValidationError as error:
            raise UsageError(f"sweep {path}: {name}: {explain_all(error, SweepRecipe, 'study')}") from error
        try:
            recipe = change_recipe(read_recipe(path.parent / asked.recipe), asked.changes)
            study = SweepStudy(str(name), asked.title or str(name), recipe, asked.grid)
            for cell in study.cells():
                change_recipe(recipe, cell)
        except RecipeError as error:
            raise UsageError(f"sweep {path}: {name}: {error}") from error
        studies.append(study)
    return studies


def check_cells(studies: list[SweepStudy], data: Pairs, device: str) -> None:
    """Look at what every cell needs, before anything is written: a wrong first try must not block the second.

    Raises:
        UsageError: there is no such device, or a recipe and the images don't fit each other.
        Failure: images are broken.
    """
    pick_device(device)
    seen = set()
    samples: dict[Sample, None] = {}
    for study in studies:
        for cell in study.cells():
            recipe = change_recipe(study.recipe, cell)
            needs = (type(recipe), recipe.data.model_dump_json(), recipe.head.model_dump_json())
            if needs not in seen:
                seen.add(needs)
                cropping_of(recipe)
                samples |= dict.fromkeys(all_samples(sides_of(recipe, data)))
    refuse_broken(list(samples), f"`undistill pairs verify {data.folder} --repair` draws their shards again")


def open_sweep(studies: list[SweepStudy], data: Pairs, out: Path, max_steps: int | None) -> None:
    """Make the folder, if need be, and write down what is swept.

    Raises:
        UsageError: the folder holds something else, or another sweep.
    """
    begun = {
        "studies": {
            study.name: {"title": study.title, "grid": study.grid, "recipe": study.recipe.model_dump(mode="json")}
            for study in studies
        },
        "max_steps": max_steps,
        "pairs": data.description.origin,
    }
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; -o takes a folder")
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):
        file = out / "sweep.json"
        if not file.exists():
            if any(path.name != ".lock" for path in out.iterdir()):
                raise UsageError(f"{out} holds something else than a sweep: choose a new folder for -o")
            write_json(begun, file)
        before = _read_begun(file)
        for study in before["studies"].values():  # one begun by an older version knows fewer keys
            try:
                study["recipe"] = make_recipe(study.get("recipe")).model_dump(mode="json")
            except RecipeError as error:
                raise UsageError(f"{file} can't be read (recipe: {error}): choose a new folder for -o") from error
        changed = [key for key, value in begun.items() if value != before.get(key)]
        if changed:
            raise UsageError(
                f"{out} was begun with another sweep ({', '.join(changed)} differ): choose a new folder for -o"
            )
        trials.begin(out, [study.name for study in studies])


def _read_begun(file: Path) -> dict[str, Any]:
    """What `open_sweep` has written down."""
    try:
        begun: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for study in begun["studies"].values():
            _ = study["title"], list(product(*study["grid"].values()))
        _ = begun["max_steps"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise UsageError(f"{file} can't be read ({reason}): choose a new folder for -o") from error
    return begun


def train_cells(
    studies: list[SweepStudy], data: Pairs, out: Path, max_steps: int | None, device: str, say: Callable[[str], None]
) -> signal.Signals | None:
    """Train one free cell after another, until there is none: what a process of a sweep does.

    Args:
        say: is told of each cell that is done.

    Returns: the signal that ended it, if one did; what it was at is saved.
    """
    for study in studies:
        known = trials.load(out, study.name, study.grid)
        while True:
            with trials.free_cell(known, len(study.cells()), out) as trial:
                if trial is None:
                    break
                with trials.reading(out):
                    cell = {key: trial.suggest_categorical(key, values) for key, values in study.grid.items()}
                run = out / study.name / cell_name(cell)
                recipe = change_recipe(study.recipe, cell)
                try:
                    result = train(recipe, data, run, max_steps=max_steps, device=device)
                except Diverged as error:
                    trials.tell(known, trial, {"val_loss": nan, "val_ssim": nan}, out)
                    say(f"{study.name} {cell_name(cell)}: {error}")
                    continue
                if result.head is None:
                    return INTERRUPTED[result.ended]
                scores = validate_run(recipe, data, run, device=device)
                trials.tell(known, trial, {"step": result.step, **scores}, out)
                say(f"{study.name} {cell_name(cell)}: loss {scores['val_loss']:.4g}, SSIM {scores['val_ssim']:.4f}")
    return None


def cell_name(cell: Mapping[str, object]) -> str:
    """The name of a cell, and of its run folder: KEY=VALUE with commas between."""
    return ",".join(f"{key}={value}" for key, value in cell.items())


def results(out: Path) -> dict[str, Any]:
    """What a sweep has found so far.

    Returns: `{"studies": {name: {"title", "cells": [{"cell", "state", "step", "loss", "ssim", "ssim_cycle"}]}},
    "max_steps"}`. A cell's state is "waiting", "running", "done" or "diverged"; its figures are null until it is done.
    `loss` and `ssim_cycle` are the run's on the validation images (see `Unpaired.validate`), `ssim` is SSIM(x, G(x)).

    Raises:
        UsageError: there is no sweep in `out`.
    """
    file = out / "sweep.json"
    if not file.exists() or not (out / trials.DATABASE).exists():
        raise UsageError(f"{out} holds no sweep: `undistill sweep run SWEEP --data PAIRS -o {out}` makes one")
    begun = _read_begun(file)
    studies = {}
    for name, study in begun["studies"].items():
        known = trials.load(out, name, study["grid"])
        with trials.reading(out):
            by_cell = {cell_name(trial.params): trial for trial in known.trials}
            rows = []
            for values in product(*study["grid"].values()):
                cell = dict(zip(study["grid"], values, strict=True))
                rows.append({"cell": cell, **trials.found(by_cell.get(cell_name(cell)))})
        studies[name] = {"title": study["title"], "cells": rows}
    return {"studies": studies, "max_steps": begun["max_steps"]}


def tables(found: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """What `results` gives, of each study its title and a table; "-" where a cell is not done."""
    made = []
    for study in found["studies"].values():
        keys = list(study["cells"][0]["cell"])
        rows = [
            [*map(str, row["cell"].values())]
            + [
                "-" if row[name] is None else f"{row[name]:.{digits}f}"
                for name, digits in (("step", 0), ("loss", 4), ("ssim", 4), ("ssim_cycle", 4))
            ]
            for row in study["cells"]
        ]
        made.append((study["title"], Table([*keys, "steps", "loss", "SSIM", "SSIM, cycle"], rows, len(keys))))
    return made


def to_markdown(found: Mapping[str, Any]) -> str:
    """A table for each study, below its title."""
    return "\n\n".join(f"{title}\n\n{table.markdown()}" for title, table in tables(found))


def show(found: Mapping[str, Any], console: Console) -> None:
    """The same for the eye, as wide as the console."""
    for title, table in tables(found):
        console.print(Text(title))
        console.print()
        table.show(console)


def write_report(found: Mapping[str, Any], out: Path) -> None:
    """Write OUT/report.json, whole or not at all."""
    write_json(found, out / "report.json")
