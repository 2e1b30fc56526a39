"""The cost of results.json as bars, for templates/cost.html."""

from dataclasses import dataclass

from undistill.report.words import Rows, between, milliseconds, percent


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
        bars.append(CostBar(way, kind, milliseconds(seconds["value"]), between(seconds, milliseconds), width, share))
    return bars
