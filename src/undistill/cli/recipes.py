"""undistill recipes"""

from undistill.base.output import console
from undistill.training import shipped_recipes


def recipes() -> None:
    """List the shipped recipes, which `undistill train` takes by name; `undistill sweep run` takes the grids."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, line in shipped_recipes().items():
        table.add_row(Text(name, no_wrap=True), Text(line))
    console().print(table)
