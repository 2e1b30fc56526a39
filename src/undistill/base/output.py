"""Standard output and errors: what `--quiet` hides, and where lines are broken."""

import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
"""No bars, and nothing of `say`."""

_UNBROKEN = 100_000
"""Columns of what is no terminal."""


def say(line: object, *, err: bool = False) -> None:
    """How it goes, and the line that ends a verb: nothing with `--quiet`. What a verb is asked for is `typer.echo`'s.

    Args:
        err: to standard error.
    """
    if not QUIET.get():
        typer.echo(line, err=err)


def console() -> "Console":
    """Standard output for tables and texts: as wide as the terminal, or as COLUMNS says; in a pipe or a file unbroken.

    So `undistill recipes | grep paper` finds whole lines.
    """
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _UNBROKEN)
