"""Heads by fold: each knows all images but a part, and enhances that part (`undistill train --folds`)."""

import json
from dataclasses import dataclass
from pathlib import Path

from undistill.base.errors import UsageError
from undistill.base.settings import read_yaml
from undistill.dataset import SplitError, fold_folder, fold_split, parse_split


@dataclass(frozen=True)
class Fold:
    """A head of `undistill train --folds`, and the ids that it has not seen.

    Args:
        name: which of how many, like 2/5, for the record.
        ids: a range of their hash.
    """

    name: str
    head: Path
    ids: tuple[float, float]


def read_folds(run: Path) -> list[Fold]:
    """The folds of a run.

    Raises:
        UsageError: they are not all there, or not of one training.
    """
    if not (fold_folder(run, 0) / "recipe.yaml").exists():
        raise UsageError(f"{run} holds no folds: undistill train ... -o {run} --folds 5 makes them")
    count = round(1 / _held_out(fold_folder(run, 0))[1])
    folds, steps = [], set()
    for number in range(count):
        folder, ids = fold_folder(run, number), fold_split(number, count)
        if not (folder / "head" / "metrics.json").exists():
            raise UsageError(f"{folder} has no head: run undistill train ... -o {run} --folds {count} to its end")
        if max(abs(a - b) for a, b in zip(_held_out(folder), ids, strict=True)) > 1e-6:
            raise UsageError(f"{folder} is not fold {number} of {count}: another number of folds was begun in {run}")
        steps.add(_step(folder / "head" / "metrics.json"))
        folds.append(Fold(f"{number}/{count}", folder / "head", ids))
    if len(steps) > 1:
        raise UsageError(
            f"the heads of {run} stand at different steps: run undistill train ... --folds {count} to its end"
        )
    return folds


def _held_out(run: Path) -> tuple[float, float]:
    try:
        return parse_split(str(read_yaml(run / "recipe.yaml")["data"]["val"]))
    except (KeyError, TypeError, SplitError) as error:
        raise UsageError(f"{run / 'recipe.yaml'} is not the recipe of a fold") from error


def _step(metrics: Path) -> int:
    try:
        return int(json.loads(metrics.read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UsageError(
            f"{metrics} is broken: delete {metrics.parent}, then run undistill train ... --folds again"
        ) from error
