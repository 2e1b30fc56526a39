"""undistill recipes"""

import typer

from undistill.training import shipped_recipes


def recipes() -> None:
    """List the shipped recipes, which `undistill train` takes by name; `undistill sweep run` takes the grids."""
    listed = shipped_recipes()
    width = max(map(len, listed), default=0)
    for name, line in listed.items():
        typer.echo(f"{name:{width}}  {line}")
