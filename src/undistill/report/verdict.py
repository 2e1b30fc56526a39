"""What a head is worth, by the rows of results.json: better than every filter, or what to take instead."""

from dataclasses import dataclass
from typing import Literal

from undistill.report.words import Rows, above_filters, best_baseline, gap_sentence

LEAST_IDENTITY = 0.97
"""Mean likeness of the enhanced faces to their own students', below which a head changes people."""
MOST_LOST = 0.03
"""Share of the students' faces that may be found no more; likeness is told of the others alone."""

Outcome = Literal["better", "no gap", "no better", "changes people"]


@dataclass(frozen=True)
class Verdict:
    """What to make of a head.

    Args:
        outcome: "no gap": student and teacher can't be told apart by these images. "no better": a filter does as well.
        says: the same in words, with figures.
        instead: the best filter, where the head is not better; None: none closes anything, or none is needed.
    """

    outcome: Outcome
    says: str
    instead: str | None = None

    @property
    def experimental(self) -> bool:
        """Whether the head is nothing to rely on."""
        return self.outcome != "better"


def gap_missing(rows: Rows) -> str | None:
    """Why no row's share of the gap can be told; None: it can be."""
    figures = [row["gap_closed"] for name, row in rows.items() if name not in ("student", "teacher")]
    reasons = [figure.get("why") for figure in figures if figure["value"] is None]
    return str(reasons[0]) if figures and len(reasons) == len(figures) else None


def judge(rows: Rows, head: str) -> Verdict:
    """The verdict on a row, beside the trivial baselines that were measured with it."""
    if rows[head]["gap_closed"]["value"] is None:
        return Verdict("no gap", gap_sentence(rows, head))
    best, says = best_baseline(rows), gap_sentence(rows, head)
    if best is not None and rows[best]["gap_closed"]["low"] <= 0:
        best = None
    identity, lost = (rows[head].get(metric) or {"value": None} for metric in ("identity", "faces_missing"))
    if identity["value"] is None:
        says += " Identity was not measured."
    elif identity["value"] < LEAST_IDENTITY:
        says = f"Identity is {identity['value']:.3f}, below {LEAST_IDENTITY:g}: the head changes people. {says}"
        return Verdict("changes people", says, best)
    if lost["value"] is not None and lost["value"] > MOST_LOST * lost["n"]:
        says = f"Of {lost['n']} faces {lost['value']:.0f} are lost: the head changes people. {says}"
        return Verdict("changes people", says, best)
    closed = rows[head]["gap_closed"]
    if closed["low"] <= 0 or not above_filters(closed, rows):
        return Verdict("no better", says, best)
    return Verdict("better", says)
