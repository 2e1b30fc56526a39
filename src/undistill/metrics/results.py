"""results.json: rows of values, with what they were measured with; and the same as tables for the eye."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from undistill.base.files import replacing
from undistill.metrics import DISTANCES, ITSELF, PICTURES
from undistill.metrics.jackknife import Value

MetricRow = dict[str, Value]


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

    def show(self, console: Console) -> None:
        """Two tables: distances to the sets, likeness to the own student image."""
        for metrics in (DISTANCES, PICTURES):
            table = Table(
                "row", *(metric.removesuffix("_student") if metrics is PICTURES else metric for metric in metrics)
            )
            for name, row in self.rows.items():
                table.add_row(name, *(_cell(row.get(metric)) for metric in metrics))
            console.print(table)
        reasons = {value.why: metric for row in self.rows.values() for metric, value in row.items() if value.why}
        for why, metric in reasons.items():
            if why != ITSELF:
                console.print(f"{metric}: {why}")


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    of = {name: version(name) for name in ("undistill", "torch", "torchmetrics", "numpy")}
    return {**of, "python": platform.python_version()}


def write_json(results: Mapping[str, Any], path: Path) -> None:
    """Write what was found, whole or not at all."""
    text = json.dumps(results, indent=2, ensure_ascii=False)
    with replacing(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def plain(rows: dict[str, MetricRow]) -> dict[str, dict[str, Any]]:
    """Rows as JSON holds them."""
    return {name: {metric: value.to_json() for metric, value in row.items()} for name, row in rows.items()}


def _cell(value: Value | None) -> str:
    if value is None or value.value is None:
        return "-"
    if value.low is None or value.high is None:
        return f"{value.value:.4g}"
    return f"{value.value:.3g} ±{(value.high - value.low) / 2:.2g}"
