"""What `undistill bench --backends` found, as a table, for the eye and in Markdown."""

from typing import Any

from rich.console import Console
from rich.text import Text

from undistill.base.table import Table
from undistill.report.words import decimals, interval_text, milliseconds


def to_markdown(results: dict[str, Any]) -> str:
    """The machine, the table, and why figures are missing."""
    return "\n\n".join([_where(results), _table(results).markdown(), *_reasons(results)])


def show(results: dict[str, Any], console: Console) -> None:
    """The same for the eye."""
    console.print(Text(_where(results)))
    console.print()
    _table(results).show(console)
    for reason in _reasons(results):
        console.print(Text(reason))


def _where(results: dict[str, Any]) -> str:
    machine, versions = results["settings"]["machine"], results["versions"]
    threads = f"{machine['threads']} {'thread' if machine['threads'] == 1 else 'threads'}"
    return (
        f"Heads by themselves, an image at a time, by turns; {machine['processor']}, {machine['cores']} cores, "
        f"{threads}, on {machine['device']}; torch {versions['torch']}; {results['settings']['date']}."
    )


def _table(results: dict[str, Any]) -> Table:
    say = decimals(2)
    lines = []
    for size, names in results["backends"].items():
        for name, rows in names.items():
            for backend, row in rows.items():
                if row["seconds"]["value"] is None:
                    continue
                takes = f"auto: {results['takes'][size][name]}" if backend == "auto" else backend
                lines.append(
                    (
                        size,
                        name,
                        takes,
                        milliseconds(row["seconds"]["value"]),
                        say(row["times"]["value"]),
                        interval_text(row["times"], say),
                        str(row["times"]["n"]),
                    )
                )
    return Table(("size, px", "head", "backend", "median", "times torch", "95% interval", "n"), lines, keys=3)


def _reasons(results: dict[str, Any]) -> list[str]:
    missing: dict[str, dict[str, None]] = {}
    for names in results["backends"].values():
        for rows in names.values():
            for row in rows.values():
                if row["seconds"]["value"] is None:
                    missing.setdefault(f"- {row['seconds']['why']}", {})
    return ["\n".join(missing)] if missing else []
