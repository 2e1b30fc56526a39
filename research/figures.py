"""Figures of the README, the docs and the cards, written from committed JSON: python -m research.figures [--check]

What a figure is comes from docs/figures/*.json, how it is written (digits, %, interval or not) from the text. Marks:

    <!-- figures: NAME -->              before a table: its rows are those of NAME.json, by heading
    0.66 [0.43, 0.88]<!-- figure: NAME/ROW/HEADING -->    after a figure; ROW: what NAME's row begins with

`--check` writes nothing and fails where text and JSON differ, and where a table with intervals has no mark.
"""

import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from undistill.base.device import processor
from undistill.base.files import replacing

ROOT = Path(__file__).parents[1]
FIGURES = Path("docs", "figures")
NUMBER = r"-?\d(?:[\d,]*\d)?(?:\.\d+)?"
TABLE = re.compile(r"<!-- figures: (\S+) -->\n\n((?:\|.*\n?)+)")
INLINE = re.compile(rf"({NUMBER}%?(?: \[[^]\n]*\])?)<!-- figure: ([^>]+?) -->")
TABLES = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
INTERVAL = re.compile(rf"\[{NUMBER}%?, {NUMBER}%?\]")

EXTRACTORS = ("appearance", "efficientnet-lite0", "alex-2", "alex-4")
IN_LOSS = "alex"
"""What the loss of `flux1` looks at."""

Cell = str | int | float | list[Any] | dict[str, Any]
Row = dict[str, Cell]


class Mismatch(Exception):
    """A mark that names nothing, or a text that has no room for its figures."""


def pages(root: Path) -> list[Path]:
    """The pages that may hold marks."""
    return [
        root / "README.md",
        *sorted((root / "docs").glob("*.md")),
        *sorted(root.glob("src/undistill/weights/*/*.md")),
    ]


def load(name: str, root: Path) -> list[Row]:
    """The rows of docs/figures/NAME.json; of a folder of results.json, one an extractor, what they say of its head."""
    path = root / FIGURES / f"{name}.json"
    if path.is_file():
        rows: list[Row] = json.loads(path.read_text())["rows"]
        return rows
    if not path.with_suffix("").is_dir():
        raise Mismatch(f"there is no {FIGURES / name}.json")
    return [by_extractor(path.with_suffix("") / f"{extractor}.json") for extractor in EXTRACTORS]


def by_extractor(path: Path) -> Row:
    """What one results.json says of its head, and of the filter that closes most."""
    found = json.loads(path.read_text())
    (head,) = found["settings"]["enhanced"]
    gaps = {name: found["rows"][name]["gap_closed"] for name in found["settings"]["baselines"]}
    best = max(gaps, key=lambda name: float(gaps[name]["value"]))
    return {
        "seen by": f"`{path.stem}`",
        "in its loss": "yes" if path.stem.startswith(IN_LOSS) else "no",
        "gap closed": found["rows"][head]["gap_closed"],
        "best of five filters": {**gaps[best], "after": f", {best}"},
        **found["rows"][head],
    }


def write_rows(rows: Sequence[Row], path: Path, n: str) -> None:
    """A table of docs/figures: how this process made it, of how many images `n`, where and when, and a row a line."""
    module = f"python -m research.{Path(sys.argv[0]).stem}"
    about = {
        "source": "as the command wrote it",
        "command": f"{module} {shlex.join(sys.argv[1:])}",
        "n": n,
        "hardware": processor(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    with replacing(path) as beside:
        beside.write_text(json.dumps(about, indent=1)[:-2] + f',\n "rows": [\n  {lines}\n ]\n}}\n', encoding="utf-8")


def numbers(cell: Cell) -> list[float]:
    """A cell's figures in the order in which they are written: value, low, high, n; or those of its parts."""
    if isinstance(cell, dict):
        return [float(cell[key]) for key in ("value", "low", "high", "n") if cell.get(key) is not None]
    if isinstance(cell, list):
        return [number for part in cell for number in numbers(part)]
    return [float(cell)]


def fill(text: str, cell: Cell) -> str:
    """The text with the cell's figures in the place of its own, in the same form.

    Raises:
        Mismatch: the text has room for others.
    """
    if isinstance(cell, str):
        return cell
    figures, old = numbers(cell), re.findall(rf"{NUMBER}%?", text)
    after = str(cell.get("after", "")) if isinstance(cell, dict) else ""
    if isinstance(cell, dict) and len(old) < len(figures) and len(old) in (1, 3):
        figures = figures[: len(old)]
    if len(figures) != len(old):
        raise Mismatch(f"{text!r} has {len(old)} figures, its JSON {len(figures)}")
    new = iter(figures)
    text = re.sub(rf"{NUMBER}%?", lambda match: write(next(new), match[0]), text)
    return re.sub(r", [a-z]+$", "", text) + after if after else text


def write(figure: float, form: str) -> str:
    """A figure with as many digits as `form` has, in percent where it is; below zero with its sign, even of 0.00."""
    digits = len(form.rstrip("%").partition(".")[2])
    exact = Decimal(str(figure + 0.0)) * (100 if form.endswith("%") else 1)
    rounded = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    separator = "," if "," in form or "." in form else ""
    return f"{rounded:{separator}f}" + ("%" if form.endswith("%") else "")


def fill_table(table: str, rows: list[Row]) -> str:
    """A Markdown table with the figures of `rows`."""
    head, rule, *lines = table.splitlines(keepends=True)
    headings = numbered(cells(head))
    if len(lines) != len(rows):
        raise Mismatch(f"the table has {len(lines)} rows, its JSON {len(rows)}")
    return head + rule + "".join(_fill_line(line, headings, row) for line, row in zip(lines, rows, strict=True))


def _fill_line(line: str, headings: list[str], row: Row) -> str:
    written = []
    for heading, text in zip(headings, cells(line), strict=True):
        if heading not in row:
            raise Mismatch(f"no {heading!r} in the JSON's row {next(iter(row.values()))!r}")
        written.append(fill(text, row[heading]))
    return "|" + "".join(f" {text} |" if text else " |" for text in written) + "\n"


def numbered(headings: list[str]) -> list[str]:
    """Headings, the second of one name as "name (2)"."""
    return [f"{h} ({n})" if (n := headings[: i + 1].count(h)) > 1 else h for i, h in enumerate(headings)]


def cells(line: str) -> list[str]:
    """What stands between a row's bars."""
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def look_up(path: str, root: Path) -> Cell:
    """The cell that NAME/ROW/HEADING is."""
    name, row_name, heading = path.split("/")
    for row in load(name, root):
        if str(next(iter(row.values()))).replace("`", "") == row_name and heading in row:
            return row[heading]
    raise Mismatch(f"no {path}")


def filled(text: str, root: Path) -> str:
    """A page's text with the figures that the JSON holds."""
    text = TABLE.sub(lambda m: f"<!-- figures: {m[1]} -->\n\n" + _told(m[1], fill_table, m[2], load(m[1], root)), text)
    return INLINE.sub(lambda m: _told(m[2], fill, m[1], look_up(m[2], root)) + f"<!-- figure: {m[2]} -->", text)


def _told(name: str, how: Callable[..., str], *given: Any) -> str:
    try:
        return how(*given)
    except Mismatch as error:
        raise Mismatch(f"{name}: {error}") from None


def check(page: Path, root: Path) -> list[str]:
    """What differs on a page, a sentence each."""
    text, where = page.read_text(), page.relative_to(root)
    faults = [f"{where}: no JSON holds this table: {heading}" for heading in bare(text)]
    try:
        new = filled(text, root)
    except Mismatch as error:
        return [*faults, f"{where}: {error}"]
    lines = enumerate(zip(text.splitlines(), new.splitlines(), strict=True), 1)
    return faults + [f"{where}:{n}: the JSON says\n  {b}\nnot\n  {a}" for n, (a, b) in lines if a != b]


def bare(text: str) -> list[str]:
    """The first lines of tables with intervals that no mark stands before."""
    return [
        table[0].splitlines()[0]
        for table in TABLES.finditer(text)
        if INTERVAL.search(table[0]) and not text[: table.start()].endswith(" -->\n\n")
    ]


def main(arguments: list[str]) -> int:
    """Write the figures, or say what differs."""
    if arguments == ["--check"]:
        faults = [fault for page in pages(ROOT) for fault in check(page, ROOT)]
        print("\n".join(faults) or "Text and JSON agree.")
        return 1 if faults else 0
    for page in pages(ROOT):
        text = page.read_text()
        if (new := filled(text, ROOT)) != text:
            page.write_text(new)
            print(f"{page.relative_to(ROOT)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
