"""results.json: rows of values, with what they were measured with; and the same as tables for the eye."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, FiniteFloat, NonNegativeInt, ValidationError, model_validator
from rich.console import Console
from rich.text import Text

from undistill.base.errors import UsageError
from undistill.base.files import replacing
from undistill.base.settings import LONGEST
from undistill.base.table import Table
from undistill.metrics import DISTANCES, ITSELF, PICTURES
from undistill.metrics.jackknife import Value

MetricRow = dict[str, Value]

FIRST = ("gap_closed", "kid_teacher", "identity", "identity_rank1", "lpips_student", "faces_missing")
"""Metrics that are read first."""


@dataclass
class Results:
    """What one evaluation found.

    Args:
        rows: by row and metric.
        settings: what was measured, and how.
        cost: by way to an image and metric (`undistill.bench.cost`), where it was measured.
    """

    rows: dict[str, MetricRow]
    settings: dict[str, Any]
    cost: dict[str, MetricRow] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What results.json holds."""
        measured = {"rows": plain(self.rows)} | ({"cost": plain(self.cost)} if self.cost else {})
        return {**measured, "settings": self.settings, "versions": versions()}

    def write(self, path: Path) -> None:
        """Write results.json, whole or not at all."""
        write_json(self.to_json(), path)

    def table(self) -> Table:
        """A line for each row; metrics that no row has a figure of are left out, `reasons` says why."""
        metrics = [
            metric
            for metric in dict.fromkeys((*FIRST, *DISTANCES, *PICTURES))
            if any(metric in row and row[metric].value is not None for row in self.rows.values())
        ]
        heading = [metric.removesuffix("_student") if metric in PICTURES else metric for metric in metrics]
        rows = [[name, *(_cell(row.get(metric)) for metric in metrics)] for name, row in self.rows.items()]
        return Table(["row", *heading], rows)

    def reasons(self) -> list[str]:
        """Why figures are missing, each reason once, with the metrics that it is about."""
        missing: dict[str, dict[str, None]] = {}
        for row in self.rows.values():
            for metric, value in row.items():
                if value.why and value.why != ITSELF:
                    missing.setdefault(value.why, {})[metric] = None
        return [f"{', '.join(metrics)}: {why}" for why, metrics in missing.items()]

    def to_markdown(self) -> str:
        """The table, and below it why figures are missing."""
        return "\n".join([self.table().markdown(), "", *(f"- {reason}" for reason in self.reasons())]).rstrip()

    def show(self, console: Console) -> None:
        """The same for the eye, as wide as the console."""
        self.table().show(console)
        for reason in self.reasons():
            console.print(Text(reason))


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    of = {name: version(name) for name in ("undistill", "torch", "torchmetrics", "numpy")}
    return {**of, "python": platform.python_version()}


def write_json(results: Mapping[str, Any], path: Path) -> None:
    """Write what was found, whole or not at all."""
    text = json.dumps(results, indent=2, ensure_ascii=False)
    with replacing(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, advice: str) -> Any:
    """What a file of ours holds.

    Raises:
        UsageError: it can't be read, or is no JSON; its text ends with the advice.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} can't be read ({error.strerror}): {advice}") from error
    except ValueError as error:
        raise UsageError(f"{path} can't be read, as it is no whole JSON: {advice}") from error


class _Figure(BaseModel):
    """A `Value`, as its `to_json` gives it."""

    value: FiniteFloat | None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n: NonNegativeInt = 0
    why: str | None = None


class _Settings(BaseModel):
    """Of the settings, those that are read again."""

    features: str
    data: str | None = None
    student: list[str] | str = []  # a folder, in the oldest
    teacher: list[str] | str = []
    split: tuple[FiniteFloat, FiniteFloat] | None = None
    images: dict[str, NonNegativeInt] = {}
    baselines: dict[str, Any] = {}


class _Written(BaseModel):
    """results.json."""

    rows: dict[str, dict[str, _Figure]]
    settings: _Settings

    @model_validator(mode="after")
    def _gaps_have_intervals(self) -> Self:
        closed = [row["gap_closed"] for row in self.rows.values() if "gap_closed" in row]
        if any(figure.value is not None and None in (figure.low, figure.high) for figure in closed):
            raise ValueError("a gap closed without an interval")
        return self


def read_results(path: Path, advice: str) -> dict[str, Any]:
    """What `Results.write` wrote; its figures have all their keys.

    Raises:
        UsageError: it can't be read, or is something else; its text ends with the advice.
    """
    told = read_json(path, advice)
    try:
        rows = _Written.model_validate(told).model_dump()["rows"]
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))[:LONGEST]
        raise UsageError(
            f"{path} is no results.json of undistill evaluate ({where}), or a broken one: {advice}"
        ) from error
    return {**told, "rows": rows}


def differing(path: Path, asked: Mapping[str, Any], baselines: bool) -> list[str]:
    """The settings in which a results.json differs from what is asked.

    Args:
        asked: those of `undistill.metrics.evaluate.described`; what an older file doesn't tell counts as alike.
        baselines: whether trivial ones are asked for.

    Raises:
        UsageError: the file can't be read.
    """
    kept = read_results(path, "give another -o")["settings"]
    asked = json.loads(json.dumps(asked))
    sides = [key for key in ("data", "student", "teacher") if (key in kept) != (key in asked)]
    changed = [key for key in asked if key in kept and kept[key] != asked[key]]
    return [*sides, *changed, *(["baselines"] if bool(kept.get("baselines")) != baselines else [])]


def plain(rows: dict[str, MetricRow]) -> dict[str, dict[str, Any]]:
    """Rows as JSON holds them."""
    return {name: {metric: value.to_json() for metric, value in row.items()} for name, row in rows.items()}


def _cell(value: Value | None) -> str:
    if value is None or value.value is None:
        return "-"
    if value.low is None or value.high is None:
        return f"{value.value:.4g}"
    return f"{value.value:.3g} ±{(value.high - value.low) / 2:.2g}"
