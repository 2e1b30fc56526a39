"""The page of `undistill demo`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undistill.report import words, write_html
from undistill.report.pictures import TRIPLE_SIDES, BeforeAfter, Triple, data_uri, write_strip
from undistill.report.table import make_chart, make_table
from undistill.report.words import Rows, interval_text, milliseconds, percent


@dataclass(frozen=True)
class CostBar:
    """A way to an image: how long it takes, its width in percent of the longest, and what it saves."""

    way: str
    kind: str
    text: str
    interval: str
    width: float
    share: str


def cost_bars(cost: Rows, head: str) -> list[CostBar]:
    """Student, student and head, teacher."""
    longest = max(row["seconds"]["value"] for row in cost.values())
    ways = {"student": ("the student", "student"), head: ("the student, then the head", "head")}
    ways["teacher"] = ("the student, then the teacher", "teacher")
    bars = []
    for name, (way, kind) in ways.items():
        seconds, saved = cost[name]["seconds"], cost[name]["saved"]
        share = f"{percent(1 - saved['value'])} of the teacher's way" if saved["value"] is not None else ""
        width = round(100 * seconds["value"] / longest, 2)
        bars.append(
            CostBar(way, kind, milliseconds(seconds["value"]), interval_text(seconds, milliseconds), width, share)
        )
    return bars


WIPED, COMPARED = 12, 8
"""Persons under the slider, and after them those that are shown three times."""


def write_demo_page(results: dict[str, Any], shown: Sequence[Triple], real: Sequence[BeforeAfter], path: Path) -> None:
    """Draw the page from results.json alone, and from the pictures of the first persons.

    Args:
        results: what results.json holds: one head, and cost.
        shown: of these the first; the persons are not chosen.
        real: the shipped portraits by FLUX.1-schnell.
    """
    rows, cost, settings = results["rows"], results["cost"], results["settings"]
    (head,) = settings["enhanced"]
    wiped, compared = shown[:WIPED], shown[WIPED : WIPED + COMPARED] or shown[:COMPARED]
    write_html(
        "demo.html",
        path,
        title=f"undistill demo: {settings['pair']}",
        head=head,
        settings=settings,
        versions=results["versions"],
        real=real,
        stored=words.with_interval(settings["stored"]) if settings["stored"] else "",
        uri=str,
        wiped=wiped,
        compared=compared,
        data_uri=data_uri,
        chart=make_chart(rows),
        table=make_table(rows, settings),
        gap=words.gap_sentence(rows, head),
        person=words.identity_sentence(rows, head),
        price=words.cost_sentence(cost, head),
        cost=cost_bars(cost, head),
        rounds=cost[head]["seconds"]["n"],
    )


def write_triples(shown: Sequence[Triple], path: Path) -> None:
    """The same persons as a strip, for a README."""
    persons = shown[WIPED : WIPED + COMPARED] or shown[:COMPARED]
    write_strip({side: [getattr(person, side) for person in persons] for side in TRIPLE_SIDES}, path)
