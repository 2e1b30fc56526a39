"""undistill doctor"""

from typing import Annotated, Literal

import typer

from undistill.base.output import console


def doctor(
    form: Annotated[Literal["text", "json"], typer.Option("--format", help="For the eye, or for programs.")] = "text",
) -> None:
    """Say what is here, and what is missing: versions, devices, room, extras, caches, weights.

    What is missing comes with what it costs and how to get it. Nothing is downloaded; the exit code is 0.
    """
    from undistill.doctor import examine, to_json

    findings = examine()
    if form == "json":
        import json

        typer.echo(json.dumps(to_json(findings), indent=2, ensure_ascii=False))
        return

    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    part = ""
    for found in findings:
        if found.part != part:
            part = found.part
            table.add_row("", Text(part, style="bold"))
        lines = [line for line in (found.says, found.costs, found.remedy) if line]
        table.add_row("" if found.there else "!", found.name.rpartition("/")[2], Text("\n".join(lines)))
    console().print(table)
