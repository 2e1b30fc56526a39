"""undistill prompts"""

from pathlib import Path
from typing import Annotated

import typer

from undistill.base.errors import UsageError
from undistill.base.output import say
from undistill.cli.options import OverwriteOption, check_ours, refuse_others


def prompts(
    count: Annotated[int, typer.Option(min=1, help="How many.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write, e.g. prompts.jsonl.")],
    names: Annotated[
        str | None,
        typer.Option(
            metavar="faker|FILE",
            help="Faker's names, from many countries, or those of IMDb's name.basics.tsv (actors and actresses), "
            "a .csv with the column name, or a text file, a name a line. Each may be a .gz.  [default: faker]",
        ),
    ] = None,
    template: Annotated[
        str,
        typer.Option(
            help='{name} is the name. Without it, e.g. "A professional business portrait", only seeds differ.'
        ),
    ] = "A professional portrait of {name}",
    seed: Annotated[int, typer.Option(min=0, help="Decides on the names, and on each prompt's own seed.")] = 0,
    skip: Annotated[int, typer.Option(min=0, help="Leave out the first so many: those that were trained on.")] = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Write prompts of different people: id, prompt, name and seed, a line each.

    The same command writes the same bytes, with the same version of Faker.
    """
    if out.exists() and not out.is_file():
        raise UsageError(f"{out} is no file; -o takes a file, e.g. prompts.jsonl")
    file = None if names in (None, "faker") else Path(str(names))
    if file is not None and out.exists() and file.exists() and out.samefile(file):
        raise UsageError(f"{out} would be overwritten by the prompts of its names: give another -o")
    check_ours(out, '"prompt":')

    from undistill.prompts import as_lines, make_prompts, write_prompts

    made = make_prompts(template, count, seed, file, skip)
    refuse_others(out, lambda: [] if out.read_bytes() == as_lines(made) else ["prompts"], overwrite=overwrite)
    write_prompts(made, out)
    say(f"{len(made)} prompts -> {out}")
