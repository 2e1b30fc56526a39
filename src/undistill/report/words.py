"""Figures of results.json in plain words. They say what the intervals allow, whichever way it turns out."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from undistill.metrics import BASELINES

Figure = Mapping[str, Any]
"""A value of results.json: value, low, high, n, why."""
Rows = Mapping[str, Mapping[str, Figure]]
"""By row and metric."""
NumberFormat = Callable[[float], str]
"""How a figure is written: `percent`, `milliseconds`, what `decimals` gives."""


def percent(value: float, places: int = 0) -> str:
    """A share in percent: 0.583 is 58%, with places=1 58.3%."""
    return _minus(f"{100 * value:.{places}f}%")


def decimals(places: int) -> NumberFormat:
    """What writes a number with so many decimal places."""
    return lambda value: _minus(f"{value:.{places}f}")


def milliseconds(seconds: float) -> str:
    """Three digits."""
    return f"{1000 * seconds:,.{max(0, 3 - len(str(int(1000 * seconds))))}f} ms"


def duration(seconds: float) -> str:
    """A time in the units that matter: 40 s, 12 min, 3 h 20 min, 2 days 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"


def interval_text(figure: Figure, say: NumberFormat) -> str:
    """The interval, or nothing where there is none."""
    return "" if figure["low"] is None else f"{say(figure['low'])} to {say(figure['high'])}"


def with_interval(figure: Figure) -> str:
    """A share and its interval: 58% (95% interval 50% to 66%); a decimal where the interval is narrow."""
    narrow = figure["low"] is not None and figure["high"] - figure["low"] < 0.02
    say = partial(percent, places=1 if narrow else 0)
    span = interval_text(figure, say)
    return say(figure["value"]) + (f" (95% interval {span})" if span else "")


def best_baseline(rows: Rows) -> str | None:
    """The trivial baseline that closes most of the gap; None where none has a figure."""
    closed = _filtered(rows)
    return max(closed, key=lambda name: float(closed[name]["value"])) if closed else None


def above_filters(closed: Figure, rows: Rows) -> bool:
    """Whether the interval lies above that of every trivial baseline."""
    return all(closed["low"] > filtered["high"] for filtered in _filtered(rows).values())


def _filtered(rows: Rows) -> dict[str, Figure]:
    closed = {name: rows[name]["gap_closed"] for name in BASELINES if name in rows}
    return {name: figure for name, figure in closed.items() if figure["value"] is not None}


def gap_sentence(rows: Rows, head: str) -> str:
    """What the head gained, beside what a filter would have."""
    closed = rows[head]["gap_closed"]
    if closed["value"] is None:
        return (
            f"The gap can't be told from noise: {closed['why']} (n = {closed['n']}). "
            "So nothing can be said about how much of it the head closes."
        )
    says = f"The head closes {with_interval(closed)} of the gap between student and teacher"
    if closed["high"] < 0:
        says = f"The head moves away from the teacher, by {with_interval(_negative(closed))} of the gap"
    elif closed["low"] <= 0:
        says += ", which can't be told from nothing"
    best = best_baseline(rows)
    if best is None:
        return f"{says}."
    filtered = rows[best]["gap_closed"]
    says += f"; the best filter that needs no training, {best}, closes {with_interval(filtered)}. "
    if above_filters(closed, rows):
        return says + "The intervals lie apart: it does what no such filter does."
    if closed["high"] < filtered["low"]:
        return says + "It is worse than a filter."
    return says + "The intervals overlap: it is no better than a filter."


def identity_sentence(rows: Rows, head: str) -> str:
    """Whether it is still the same person."""
    rank, lost = (rows[head].get(metric) for metric in ("identity_rank1", "faces_missing"))
    if rank is None or rank["value"] is None or lost is None:
        why = rows[head]["identity"]["why"] if rank is None else rank["why"]
        return f"Whether it is still the same person was not measured: {why}."
    return (
        f"Of {rank['n']} enhanced images with a face, {with_interval(rank)} are nearest to their own student's face; "
        f"{lost['value']:.0f} of {lost['n']} faces were lost."
    )


def cost_sentence(cost: Rows, head: str) -> str:
    """What an enhanced image costs."""
    mine, teacher, saved = cost[head]["seconds"], cost["teacher"]["seconds"], cost[head]["saved"]
    return (
        f"An enhanced image takes {milliseconds(mine['value'])}, a teacher's {milliseconds(teacher['value'])}: "
        f"{with_interval(saved)} of the time is saved."
    )


def _negative(figure: Figure) -> Figure:
    return {**figure, "value": -figure["value"], "low": -figure["high"], "high": -figure["low"]}


def _minus(text: str) -> str:
    return text.removeprefix("-") if float(text.rstrip("%")) == 0 else text.replace("-", "\N{MINUS SIGN}")
