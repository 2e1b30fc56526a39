"""undistill card"""

from pathlib import Path
from typing import Annotated

import typer

from undistill.base.output import say
from undistill.cli.options import check_ours


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run of `undistill train`.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Write it here, e.g. RUN/head/README.md.  [default: print it]"),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            help="What `undistill evaluate` wrote; may be repeated, for the same images as other --features see them."
            "  [default: RUN/results.json and results-*.json, if they are there]"
        ),
    ] = None,
    row: Annotated[str | None, typer.Option(help="Of the results.  [default: the only head's]")] = None,
    base_model: Annotated[
        str | None, typer.Option(metavar="ID", help="The student's hub id.  [default: the pair's, where it is known]")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="ID", help="The hub id of the pairs data set.")] = None,
) -> None:
    """Write the model card of a trained head, with what was measured, as the Hugging Face hub reads it."""
    if out is not None:
        check_ours(out, "library_name: undistill")

    from undistill.base.files import replacing
    from undistill.hub.cards import head_card

    text = head_card(run, results or [], row, base_model, dataset)
    if out is None:
        typer.echo(text)
        return
    with replacing(out) as beside:
        beside.write_text(text, encoding="utf-8")
    say(f"-> {out}")
