"""undistill diversity"""

from pathlib import Path
from typing import Annotated

import typer

from undistill.base.lock import locked
from undistill.base.output import say
from undistill.cli.options import FormatOption, named_folders, print_results


def diversity(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for diversity.json and the figures.")],
    groups: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=DIR...", help="Groups: a name, and a folder of portraits.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A pairs data set: its sides are groups too, student and teacher, the first two."),
    ] = None,
    split: Annotated[str, typer.Option(help="Measure train, val, test, all or LO:HI of the ids.")] = "all",
    attributes: Annotated[
        str,
        typer.Option(
            metavar="dlib|deepface",
            help="Who estimates gender and age; deepface estimates ethnicity too, and downloads its weights.",
        ),
    ] = "dlib",
    embedding: Annotated[
        str, typer.Option(metavar="dlib|arcface", help="In what space faces are near; arcface downloads its weights.")
    ] = "dlib",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of intervals, tests and the map.")] = 0,
    form: FormatOption = "text",
) -> None:
    """How diverse are the faces of each group? All others are held against the first.

    Shares and entropy of perceived gender, age group and ethnicity, with intervals and tests; mean distance between
    faces; a map of them (t-SNE), and the pairs most alike.

    Run it again to go on: what was seen in an image is kept.
    """
    from undistill.dataset import parse_split

    folders, span = named_folders(groups or []), parse_split(split)

    from undistill.diversity.measure import measure_diversity

    with locked(out):
        found = measure_diversity(folders, out, data, span, attributes, embedding, seed)
    print_results(form, found.show, found.to_markdown, found.to_json())
    say(f"-> {out}", err=form != "text")
