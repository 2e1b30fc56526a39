"""Rows of docs/figures from tables that a command has printed.

    undistill bench --heads all -o bench --format md > bench.md
    python -m research.tables bench.md bench-ways bench-heads bench-limits --n "6 rounds of undistill bench ..."

The tables of the file, in their order, become docs/figures/NAME.json; the pages take the tables themselves, behind the
marks of `research.figures`.
"""

import re
from pathlib import Path
from typing import Annotated

import typer

from research.figures import FIGURES, NUMBER, ROOT, TABLES, Cell, Row, cells, numbered, write_rows
from undistill.base.command import run
from undistill.base.errors import UsageError

FIGURE = re.compile(rf"({NUMBER})(%?)(?: ms| s)?(?: to ({NUMBER})%?(?: ms| s)?)?")


def cell_of(text: str) -> Cell:
    """A figure, the two ends of an interval, or words; percent as a share, and no unit."""
    if (found := FIGURE.fullmatch(text)) is None:
        return text
    figures = [float(figure.replace(",", "")) for figure in found.group(1, 3) if figure]
    scaled = [round(figure / 100, 4) for figure in figures] if found[2] else figures
    whole = [int(figure) if figure.is_integer() and "." not in text else figure for figure in scaled]
    return whole if found[3] else whole[0]


def rows_of(table: str) -> list[Row]:
    """The rows of a Markdown table, by heading."""
    head, _, *lines = table.splitlines()
    headings = numbered(cells(head))
    return [dict(zip(headings, map(cell_of, cells(line)), strict=True)) for line in lines]


def main(
    file: Annotated[Path, typer.Argument()],
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    n: Annotated[str, typer.Option(help="How much was measured, in words, and the command that printed it.")],
    out: Annotated[Path, typer.Option("-o", "--out")] = ROOT / FIGURES,
) -> None:
    """Write the rows."""
    tables = TABLES.findall(file.read_text())
    if len(tables) != len(names):
        raise UsageError(f"{file} holds {len(tables)} tables, and {len(names)} names are given")
    for name, table in zip(names, tables, strict=True):
        write_rows(rows_of(table), out / f"{name}.json", n)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
