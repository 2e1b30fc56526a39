"""Tables of results, for the eye at any width, and as Markdown."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

_GAP = 3
"""Between two columns."""


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Args:
        heading: of the columns, those that matter most first.
        rows: a cell a column.
        keys: so many columns on the left name a row.
    """

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: int = 1

    def markdown(self) -> str:
        """All columns in one table."""
        lines = (self.heading, ["---"] * len(self.heading), *self.rows)
        return "\n".join(f"| {' | '.join(map(_escaped, cells))} |" for cells in lines)

    def show(self, console: Console) -> None:
        """Print it; columns that the console's width has no room for follow below, beside the names of the rows again.

        No figure is cut or broken; names that take more room than is left are.
        """
        for columns in self._parts(console.width):
            table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
            for column in columns:
                name = column < self.keys and not self._is_figure(column)
                table.add_column(Text(self.heading[column]), overflow="fold", no_wrap=not name)
            for row in self.rows:
                table.add_row(*(Text(row[column]) for column in columns))
            console.print(table)
            console.print()

    def _parts(self, width: int) -> Iterator[list[int]]:
        """Columns that stand side by side: those that name the rows, and as many others as there is room for."""
        names = list(range(self.keys))
        widths = [max(map(cell_len, cells)) for cells in zip(self.heading, *self.rows, strict=True)]
        part: list[int] = []
        for column in range(self.keys, len(self.heading)):
            beside = [*names, *part, column]
            if part and sum(widths[each] + _GAP for each in beside) - _GAP > width:
                yield [*names, *part]
                part = []
            part.append(column)
        yield [*names, *part]

    def _is_figure(self, column: int) -> bool:
        return all(re.fullmatch(r"[\d.,]+", row[column]) for row in self.rows)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
