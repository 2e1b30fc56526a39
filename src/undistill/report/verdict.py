"""What a head is worth, by the rows of results.json: better than every filter, or what to take instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from undistill.report.words import Rows, above_filters, best_baseline, gap_sentence, with_interval

LEAST_IDENTITY = 0.97
"""Mean likeness of the enhanced faces to their own students', below which a head changes people."""
MOST_LOST = 0.03
"""Share of the students' faces that may be found no more; likeness is told of the others alone."""

LEAST_AGREEING = 2
"""Extractors that must see a gain, where several looked: one alone may see what it likes (docs/measure.md)."""

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


def judge(rows: Rows, head: str, others: Mapping[str, Rows] | None = None) -> Verdict:
    """The verdict on a row, beside the trivial baselines that were measured with it.

    Args:
        others: the same rows as seen by further extractors, by their names. With these a gain takes two that see it.
    """
    others = others or {}
    if all(seen[head]["gap_closed"]["value"] is None for seen in (rows, *others.values())):
        return Verdict("no gap", gap_sentence(rows, head))
    best, says = best_baseline(rows), " ".join((gap_sentence(rows, head), *_seen_otherwise(others, head)))
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
    gains = sum(_gains(seen, head) for seen in (rows, *others.values()))
    if others:
        says += f" Of {len(others) + 1} extractors {gains or 'none'} {'sees' if gains < 2 else 'see'} a gain"
        says += "." if gains >= LEAST_AGREEING else f"; it takes {LEAST_AGREEING}."
    if gains < (LEAST_AGREEING if others else 1):
        return Verdict("no better", says, best)
    return Verdict("better", says)


def _gains(rows: Rows, head: str) -> bool:
    closed = rows[head]["gap_closed"]
    return closed["value"] is not None and closed["low"] > 0 and above_filters(closed, rows)


def _seen_otherwise(others: Mapping[str, Rows], head: str) -> list[str]:
    """A sentence for each further extractor."""
    says = []
    for features, rows in others.items():
        closed, best = rows[head]["gap_closed"], best_baseline(rows)
        if closed["value"] is None:
            says.append(f"Seen by {features} the gap can't be told from noise.")
        else:
            filtered = f", the best filter ({best}) {with_interval(rows[best]['gap_closed'])}" if best else ""
            says.append(f"Seen by {features} it closes {with_interval(closed)}{filtered}.")
    return says
