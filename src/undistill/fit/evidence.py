"""Which recipe a head is trained by: the one that the tables of heads speak for.

evidence.json has the tables of docs/heads.md with the commands that gave them; nothing else is known here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from undistill.base.errors import UsageError
from undistill.report.verdict import LEAST_IDENTITY

FILE = Path(__file__).with_name("evidence.json")

MEASURED_BY = "efficientnet-lite0"
"""What `undistill evaluate` looks with unless told otherwise; no recipe has it in a loss."""
AND_BY = ("appearance", "alex-2")
"""What looks at a head beside it: light, colour and detail, in no loss either; and a layer that losses have."""
PORTRAIT = 400
"""Side from which on images are looked at as portraits, px: the smallest that `flux1` was trained on."""


@dataclass(frozen=True)
class Choice:
    """A recipe, and why it is taken.

    Args:
        name: as `undistill train` takes it.
        changes: to the recipe, by key.
        why: the figures that speak for it, in words.
        source: where they stand.
    """

    name: str
    why: str
    source: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GpuRecipe:
    """A recipe for a GPU. All of it is computed, nothing was measured on one.

    Args:
        name: as `undistill train` takes it.
        gpu: bytes of the GPU's memory that it is for, at least.
        memory: bytes that its training takes.
        batch: images a side in a step.
        images_s: of a side, a second, by the name of a GPU.
    """

    name: str
    gpu: int
    memory: int
    batch: int
    images_s: Mapping[str, float]


@cache
def read_evidence() -> dict[str, Any]:
    """What evidence.json holds."""
    evidence: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return evidence


def choose_recipe(size: int, *, pairs: bool) -> Choice:
    """The recipe whose interval of the gap closed begins highest in the table for images of this size.

    Args:
        size: shorter side of the images, px.
        pairs: whether both sides show the same persons; else recipes that take pairs together are out.
    """
    kind = "portraits" if size >= PORTRAIT else "small"
    table = next(t for t in read_evidence()["tables"] if t["of"] == kind and t["chooses"])
    rows = [row for row in table["rows"] if (pairs or not row["pairs"]) and row.get("identity", 1.0) >= LEAST_IDENTITY]
    best = max(rows, key=lambda row: float(row["gap_closed"][1]))
    value, low, high = best["gap_closed"]
    filtered = table["best_filter"]
    why = (
        f"it closed {value:g} [{low:g}, {high:g}] of the gap, the best filter ({filtered['name']}) "
        f"{filtered['gap_closed'][0]:g}: {table['images']}, seen by {table['features']}"
    )
    for other in read_evidence()["tables"]:  # what the verdict will look at
        if other["of"] == kind and other["features"] == MEASURED_BY != table["features"]:
            value, low, high = next(row for row in other["rows"] if row["recipe"] == best["recipe"])["gap_closed"]
            filtered = other["best_filter"]
            why += (
                f"; seen by {MEASURED_BY}, as yours will be, {value:g} [{low:g}, {high:g}], the best filter "
                f"({filtered['name']}) {filtered['gap_closed'][0]:g}"
            )
    return Choice(best["recipe"], why, table["source"], best.get("changes", {}))


def gpu_recipes() -> list[GpuRecipe]:
    """Those for portraits of 512 px, from the smallest GPU on."""
    return [GpuRecipe(**recipe) for recipe in read_evidence()["gpu_recipes"]]


def gpu_recipe(memory: int) -> GpuRecipe:
    """The largest for a GPU of so many bytes; for a smaller GPU the smallest that has room there.

    Raises:
        UsageError: it is too small for all of them.
    """
    least, *others = gpu_recipes()
    if least.memory > memory:
        raise UsageError(
            f"the GPU's {memory / 1e9:.0f} GB are too few: training a head on portraits takes "
            f"{least.memory / 1e9:.0f} GB; --plan says what each GPU takes"
        )
    return [least, *(recipe for recipe in others if recipe.gpu <= memory)][-1]


def known_pair_seconds(pair: str) -> tuple[float, str] | None:
    """Seconds a pair, where they were measured for the docs, and how; None: nobody has."""
    for speed in read_evidence()["speeds"]:
        if speed["pair"] == pair:
            return speed["pair_s"], f"{speed['how']} ({speed['source']})"
    return None
