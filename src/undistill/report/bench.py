"""bench.json as tables, for the eye and, in Markdown, for docs/performance.md; and as a plot."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from undistill.base.errors import Failure
from undistill.base.files import replacing
from undistill.base.table import Table
from undistill.report.words import Figure, NumberFormat, decimals, interval_text, milliseconds, percent

PAPER_SAVED = 0.82
"""Time saved against the teacher by arXiv 2505.02255, with FLUX.1."""

MISSING = {"seconds": "", "peak_mb": "peak memory of ", "convolution": "convolution in ", "matmul": "matmul in "}
"""Metrics whose reasons are told, and words before what they are of."""


INTERVAL = "95% interval"
"""Heading of what belongs to the figure on its left."""
FIRST = ("median", "saved", "times", "peak, MB")
"""Columns that are read first."""


def to_markdown(results: dict[str, Any]) -> str:
    """Three tables: the ways to an image, heads by themselves, the device's limits; and why figures are missing."""
    return "\n\n".join(part.markdown() if isinstance(part, Table) else part for part in _parts(results))


def show(results: dict[str, Any], console: Console) -> None:
    """The same for the eye, as wide as the console."""
    for part in _parts(results):
        if isinstance(part, Table):
            _for_the_eye(part).show(console)
        else:
            console.print(Text(part.replace("`", "")))
            console.print()


def _parts(results: dict[str, Any]) -> list[Table | str]:
    settings = results["settings"]
    machine = settings["machine"]
    threads = f"{machine['threads']} {'thread' if machine['threads'] == 1 else 'threads'}"
    where = f"{machine['processor']}, {machine['cores']} cores, {threads}, on {machine['device']}"
    versions = f"torch {results['versions']['torch']}"
    return [
        f"Pair `{settings['pair']}`, an image at a time; {where}; {versions}; {settings['date']}.",
        _ways(results["cost"]),
        f"Saved: of the teacher's time. The paper, with FLUX.1: {percent(PAPER_SAVED)}.",
        _heads(results["heads"]),
        f"Times: as fast as `{settings['reference']}`. Of convolution, of matmul: share of these limits:",
        _limits(results["limits"]),
        *_reasons(results),
    ]


def _for_the_eye(table: Table) -> Table:
    """What is read first in front, intervals behind their figures, so that they stay together; no marks of Markdown."""
    heading: list[str] = []
    rows: list[list[str]] = [[] for _ in table.rows]
    for column, title in enumerate(table.heading):
        cells = [row[column].replace("`", "") for row in table.rows]
        if title == INTERVAL:
            for row, cell in zip(rows, cells, strict=True):
                row[-1] += f" ({cell})" if cell else ""
            continue
        heading.append(title)
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)
    order = sorted(range(len(heading)), key=lambda column: column >= table.keys and heading[column] not in FIRST)
    return Table([heading[column] for column in order], [[row[column] for column in order] for row in rows], table.keys)


def _ways(cost: dict[str, Any]) -> Table:
    lines = [
        (
            size,
            _way(name),
            _cell(row, "seconds", milliseconds),
            _cell(row, "seconds", milliseconds, interval=True),
            _cell(row, "seconds_mean", milliseconds),
            _count(row),
            _cell(row, "share", percent),
            _cell(row, "saved", percent),
            _cell(row, "saved", percent, interval=True),
        )
        for size, rows in cost.items()
        for name, row in _ordered(rows).items()
    ]
    heading = ("size, px", "way", "median", INTERVAL, "mean", "n", "head's share", "saved", INTERVAL)
    return Table(heading, lines, keys=2)


def _heads(heads: dict[str, Any]) -> Table:
    lines = [
        (
            size,
            f"`{name}`",
            variant,
            _cell(row, "seconds", milliseconds),
            _cell(row, "seconds", milliseconds, interval=True),
            _cell(row, "images_per_s", _three_digits),
            _cell(row, "gflop", _three_digits),
            _cell(row, "gflop_per_s", decimals(0)),
            _cell(row, "of_convolution", percent),
            _cell(row, "of_matmul", percent),
            _cell(row, "times", _three_digits),
            _cell(row, "peak_mb", decimals(0)),
        )
        for size, rows in heads.items()
        for name, variants in rows.items()
        for variant, row in variants.items()
        if row["seconds"]["value"] is not None
    ]
    heading = ("size, px", "head", "variant", "median", INTERVAL, "images/s", "GFLOP", "GFLOP/s")
    return Table((*heading, "of convolution", "of matmul", "times", "peak, MB"), lines, keys=3)


def _limits(limits: dict[str, Any]) -> Table:
    lines = [
        (size, precision, *(_cell(row, name, decimals(0)) for name in ("convolution", "matmul")))
        for size, rows in limits.items()
        for precision, row in rows.items()
    ]
    return Table(("beside, px", "precision", "convolution, GFLOP/s", "matmul, GFLOP/s"), lines, keys=2)


def _reasons(results: dict[str, Any]) -> list[str]:
    """Why figures are missing; each reason once, with all that it is for."""
    rows = [
        *((f"{_way(name)} at {size} px", row) for size, rows in results["cost"].items() for name, row in rows.items()),
        *(pair for rows in results["heads"].values() for variants in rows.values() for pair in variants.items()),
        *(pair for rows in results["limits"].values() for pair in rows.items()),
    ]
    missing: dict[str, dict[str, None]] = {}
    for what, row in rows:
        for metric, words in MISSING.items():
            if metric in row and row[metric]["value"] is None:
                missing.setdefault(row[metric]["why"], {})[words + what] = None
    return ["\n".join(f"- no {', '.join(what)}: {why}" for why, what in missing.items())] if missing else []


def write_plot(results: dict[str, Any], path: Path) -> None:
    """Figure 6: time of an image by size, for the student, the student with each head, and the teacher.

    Raises:
        Failure: matplotlib is not installed.
    """
    figure_class = load_matplotlib()
    figure = figure_class(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    cost = results["cost"]
    sizes = [int(size) for size in cost]
    names = list(dict.fromkeys(name for rows in cost.values() for name in _ordered(rows)))
    for name in names:
        known = [
            (size, row["seconds"])
            for size, rows in cost.items()
            if (row := rows.get(name)) and row["seconds"]["value"] is not None
        ]
        medians = [figure["value"] for _, figure in known]
        spread = [
            [median - (figure["low"] or median) for median, (_, figure) in zip(medians, known, strict=True)],
            [(figure["high"] or median) - median for median, (_, figure) in zip(medians, known, strict=True)],
        ]
        style = {"student": ("o-", "#8a8378"), "teacher": ("s-", "#1c1b19")}.get(name)
        axes.errorbar(
            [int(size) for size, _ in known],
            medians,
            spread,
            fmt=style[0] if style else ".--",
            color=style[1] if style else None,
            label=_way(name).replace("`", ""),
            capsize=2,
            linewidth=1.5,
        )
    axes.set(xscale="log", yscale="log", xlabel="size, px", ylabel="time of an image, s (median)")
    axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    axes.minorticks_off()
    axes.grid(True, axis="y", alpha=0.3)
    saved = [row["saved"]["value"] for rows in cost.values() for name, row in rows.items() if _saves(name, row)]
    ours = f"saved with a head: {percent(min(saved))} to {percent(max(saved))}; " if saved else ""
    machine = results["settings"]["machine"]
    axes.set_title(
        f"{results['settings']['pair']} on {machine['processor']} ({machine['device']})\n"
        f"{ours}the paper's, with FLUX.1: {percent(PAPER_SAVED)}",
        fontsize=9,
        loc="left",
    )
    axes.legend(fontsize="small", frameon=False)
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=144)


def load_matplotlib() -> Any:
    """matplotlib's Figure.

    Raises:
        Failure: it is not installed.
    """
    try:
        from matplotlib.figure import Figure as Plot
    except ImportError as error:
        raise Failure("the plot needs matplotlib: pip install 'undistill[report]'") from error
    return Plot


def _saves(name: str, row: dict[str, Figure]) -> bool:
    return name not in ("student", "teacher") and row.get("saved", {"value": None})["value"] is not None


def _ordered(rows: dict[str, Any]) -> dict[str, Any]:
    heads = [name for name in rows if name not in ("student", "teacher")]
    return {name: rows[name] for name in ("student", *heads, "teacher") if name in rows}


def _way(name: str) -> str:
    return {"student": "student", "teacher": "student, then teacher"}.get(name, f"student, then `{name}`")


def _cell(row: dict[str, Figure], metric: str, say: NumberFormat, interval: bool = False) -> str:
    figure = row.get(metric)
    if figure is None or figure["value"] is None:
        return ""
    return interval_text(figure, say) if interval else say(figure["value"])


def _count(row: dict[str, Figure]) -> str:
    return str(row["seconds"]["n"]) if row["seconds"]["value"] is not None else ""


def _three_digits(value: float) -> str:
    """Three digits."""
    return f"{value:,.{max(0, 3 - len(str(int(value))))}f}" if value >= 1 else f"{value:#.3g}"
