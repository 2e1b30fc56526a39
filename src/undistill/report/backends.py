"""What `undistill bench --backends` found, as a table, for the eye and in Markdown."""

from typing import Any

from rich.console import Console
from rich.text import Text

from undistill.base.table import Table
from undistill.report.words import decimals, interval_text, milliseconds


def to_markdown(results: dict[str, Any]) -> str:
    """The machine, the table, what `auto` has kept, and why figures are missing."""
    lines = "\n".join([*_kept(results), *_reasons(results)])
    return "\n\n".join([_where(results), _table(results).markdown(), lines])


def show(results: dict[str, Any], console: Console) -> None:
    """The same for the eye."""
    console.print(Text(_where(results)))
    console.print()
    _table(results).show(console)
    for line in (*_kept(results), *_reasons(results)):
        console.print(Text(line))


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


def _kept(results: dict[str, Any]) -> list[str]:
    """What `auto` takes for each head by its own table, and whether this run says the same."""
    lines = []
    for name, auto in results["auto"].items():
        others = {size: takes[name] for size, takes in results["takes"].items() if takes[name] != auto["takes"]}
        agreed = ", ".join(f"{takes} at {size} px" for size, takes in others.items()) or "the same"
        timed = ", ".join(f"{backend} {milliseconds(seconds)}" for backend, seconds in auto["seconds"].items())
        why = f"by its table (one thread, {auto['size']} px: {timed})" if timed else "without a table of its own"
        lines.append(f"- {name}: auto takes {auto['takes']}, {why}; this run says {agreed}")
    return lines


def _reasons(results: dict[str, Any]) -> list[str]:
    missing: dict[str, dict[str, None]] = {}
    for names in results["backends"].values():
        for rows in names.values():
            for row in rows.values():
                if row["seconds"]["value"] is None:
                    missing.setdefault(f"- {row['seconds']['why']}", {})
    return list(missing)
