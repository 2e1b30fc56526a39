"""Rows of results.json as a table and as a chart, for templates/table.html and templates/gap.html."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from undistill.metrics import BASELINES
from undistill.report.words import Figure, NumberFormat, Rows, decimals, interval_text, percent

ABSENT = "not measured for this row"
UNTOUCHED = {"match": 0.0, "saturation": 1.0, "sharpen": 0.0, "radius": 1.0, "grain": 0.0, "blur": 0.0}
"""Strengths of a filter that changes nothing (metrics/baselines.py)."""


@dataclass(frozen=True)
class Column:
    """A metric: its heading, how its figures are written, and which way is better."""

    metric: str
    heading: str
    say: NumberFormat
    better: str = ""


COLUMNS = (
    Column("gap_closed", "Gap closed", percent, "more"),
    Column("kid_teacher", "KID to teacher", decimals(4), "less"),
    Column("identity", "Identity", decimals(3), "more"),
    Column("identity_rank1", "Rank 1", percent, "more"),
    Column("lpips_student", "LPIPS to student", decimals(3)),
    Column("faces_missing", "Faces lost", decimals(0), "less"),
)


@dataclass(frozen=True)
class TableCell:
    """What stands in a cell: a figure with its interval, or a mark of the reason why there is none."""

    text: str
    interval: str = ""
    mark: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row of the table; `kind` is student, head, filter or teacher."""

    name: str
    kind: str
    note: str
    cells: list[TableCell]


@dataclass(frozen=True)
class Table:
    """A table as templates/table.html draws it."""

    columns: Sequence[Column]
    counts: list[str]
    """How many images the figures of each column rest on."""
    lines: list[TableRow]
    reasons: dict[str, str]
    """By mark, why figures are missing."""


def make_table(
    rows: Rows,
    settings: dict[str, Any],
    columns: Sequence[Column] = COLUMNS,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> Table:
    """The rows in the order student, heads, trivial baselines, teacher; metrics that no row has are left out.

    Args:
        notes: by row, what stands below its name; of baselines, what they came to.
    """
    columns = [column for column in columns if any(column.metric in row for row in rows.values())]
    marks: dict[str, str] = {}

    def cell(figure: Figure | None, say: NumberFormat) -> TableCell:
        if figure is not None and figure["value"] is not None:
            return TableCell(say(figure["value"]), interval_text(figure, say))
        why = ABSENT if figure is None else str(figure["why"])
        return TableCell("n/a", mark=marks.setdefault(why, "abcdefghijklmnopqrstuvwxyz"[len(marks)]))

    order = ["student", *(name for name in rows if kind_of(name) == "head"), *BASELINES, "teacher"]
    lines = [
        TableRow(
            name,
            kind_of(name),
            notes.get(name, tuned(name, settings)),
            [cell(rows[name].get(c.metric), c.say) for c in columns],
        )
        for name in order
        if name in rows
    ]
    return Table(columns, [_count(rows, column) for column in columns], lines, {m: why for why, m in marks.items()})


@dataclass(frozen=True)
class GapBar:
    """A row of the chart: places in percent of its width, or the reason why there is none; `beyond` is "left" or
    "right" where its figure lies outside."""

    name: str
    kind: str
    text: str
    interval: str
    why: str = ""
    at: float = 0.0
    low: float = 0.0
    high: float = 0.0
    beyond: str = ""


@dataclass(frozen=True)
class GapChart:
    """Gap closed by row, with the places of 0 (the student) and 1 (the teacher)."""

    bars: list[GapBar]
    student: float
    teacher: float


def make_chart(rows: Rows) -> GapChart:
    """Heads and trivial baselines, the nearest to the teacher first; from -100% to 200% at most, whatever they do."""
    shown = {name: row["gap_closed"] for name, row in rows.items() if kind_of(name) in ("head", "filter")}
    known = [figure for figure in shown.values() if figure["value"] is not None]
    low = max(-1.0, min([0.0, *(float(figure["low"]) for figure in known)]))
    high = min(2.0, max([1.0, *(float(figure["high"]) for figure in known)]))
    margin = 0.04 * (high - low)

    def place(value: float) -> float:
        place = (value - low + margin) / (high - low + 2 * margin)
        return round(100 * min(1.0, max(0.0, place)), 2)

    def bar(name: str, figure: Figure) -> GapBar:
        if figure["value"] is None:
            return GapBar(name, kind_of(name), "n/a", "", str(figure["why"]))
        text, interval = percent(figure["value"]), interval_text(figure, percent)
        at, start, end = (place(figure[key]) for key in ("value", "low", "high"))
        beyond = {0.0: "left", 100.0: "right"}.get(at, "")
        return GapBar(name, kind_of(name), text, interval, at=at, low=start, high=end, beyond=beyond)

    nearest = sorted(shown.items(), key=lambda item: float(item[1]["value"] or 0), reverse=True)
    return GapChart([bar(name, figure) for name, figure in nearest], place(0), place(1))


def kind_of(name: str) -> str:
    """What a row is, by its name: student, teacher, filter or head."""
    return name if name in ("student", "teacher") else "filter" if name in BASELINES else "head"


def tuned(name: str, settings: dict[str, Any]) -> str:
    """What a trivial baseline came to."""
    parts = settings["baselines"].get(name)
    if parts is None:
        return ""
    # One filter, or in files of before 2026-11-26 its strengths themselves; cross-fitted: one for each half.
    return "; ".join(dict.fromkeys(map(_strengths, parts if isinstance(parts, list) else [parts])))


def _strengths(filter: dict[str, float]) -> str:
    changed = {key: value for key, value in filter.items() if value != UNTOUCHED[key]}
    return ", ".join(f"{key} {value:g}" for key, value in changed.items()) or "changes nothing"


def _count(rows: Rows, column: Column) -> str:
    counts = {row[column.metric]["n"] for row in rows.values() if column.metric in row} - {0}
    if not counts:
        return ""
    return f"n = {min(counts)}" if len(counts) == 1 else f"n = {min(counts)} to {max(counts)}"
