"""Tables, at any width."""

from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from undistill.base.table import Table

WIDTHS = (60, 80, 200)


def shown(show: Callable[[Console], None], width: int) -> str:
    """What is printed at a width; no line is wider, and nothing is cut."""
    out = StringIO()
    show(Console(file=out, width=width))
    said = out.getvalue()
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= width
    return said


def check_figures(table: Table, width: int) -> None:
    """Every figure is there, in one piece, as often as it should be."""
    said = shown(table.show, width)
    cells = [cell for row in table.rows for cell in row[table.keys :] if cell]
    for cell in cells:
        assert said.count(cell) >= sum(cell in other for other in cells)
    for title in table.heading[table.keys :]:
        assert title in said


LONG = "a-head-with-a-name-that-is-longer-than-the-whole-line-of-a-narrow-terminal-is"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["mine", LONG])
@pytest.mark.parametrize("keys", [1, 2, 3])
def test_no_figure_is_cut_or_broken(name: str, width: int, keys: int) -> None:
    heading = ["size, px", "way", "variant"][:keys] + [f"metric {number}" for number in range(9)]
    rows = [
        ["1024", name, "channels-last"][:keys] + [f"{number + line / 10:.3f} ±0.0{number}7" for number in range(9)]
        for line in range(3)
    ]
    check_figures(Table(heading, rows, keys), width)
    said = shown(Table(heading, rows, keys).show, width)
    assert said.count("1024") % 3 == 0
    assert "1024" in said


def test_columns_without_room_follow_below_beside_the_names() -> None:
    table = Table(["row", *"abcdefgh"], [["mine", *("0.123 ±0.01" for _ in range(8))]])
    narrow, wide = shown(table.show, 60), shown(table.show, 200)
    assert (narrow.count("mine"), wide.count("mine")) == (2, 1)
    assert narrow.index("a ") < narrow.index("h ")


def test_markdown_is_one_table() -> None:
    assert Table(["row", "a"], [["x|y", "1"]]).markdown() == "| row | a |\n| --- | --- |\n| x\\|y | 1 |"


def test_names_are_no_markup() -> None:
    assert "[bold]" in shown(Table(["row", "a"], [["[bold]", "1"]]).show, 80)
