"""undistill evaluate"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from undistill.base.errors import UsageError
from undistill.base.output import say
from undistill.cli.options import (
    DeviceOption,
    FormatOption,
    OverwriteOption,
    check_ours,
    named_folders,
    print_results,
    refuse_others,
)


def evaluate(
    enhanced: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="Row and folder of enhanced images; may be repeated.  [default: none, filters alone]",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A pairs data set, or else:")] = None,
    student: Annotated[Path | None, typer.Option(help="Folder of student images.")] = None,
    teacher: Annotated[list[Path] | None, typer.Option(help="Folder of teacher images; may be repeated.")] = None,
    split: Annotated[
        str, typer.Option(help="Measure on train, val, test, all or LO:HI; fit on the rest, or cross-fit.")
    ] = "all",
    features: Annotated[str, typer.Option(help="Name of the feature extractor.")] = "efficientnet-lite0",
    min_side: Annotated[int, typer.Option(min=0, help="Leave out images whose shorter side is less, px.")] = 0,
    limit: Annotated[int | None, typer.Option(min=2, help="Take so many images a side: a quick look.")] = None,
    baselines: Annotated[bool, typer.Option(help="Tune and measure trivial baselines too: the longest part.")] = True,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write results.json here.")] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    form: FormatOption = "text",
) -> None:
    """Measure how much of the gap between student and teacher enhanced images close.

    Trivial baselines (sharpen, grain, colour, all three, blur) are tuned and measured beside them. Without --enhanced
    they are measured alone: whether student and teacher can be told apart, before anything is trained.
    """
    from undistill.dataset import parse_split
    from undistill.dataset.samples import open_source

    folders = named_folders(enhanced or [], "--enhanced")
    if out is not None and out.is_dir():
        raise UsageError(f"{out} is a folder; -o takes a file, e.g. {out / 'results.json'}")
    if out is not None:
        check_ours(out, '"rows": {')
    span = parse_split(split)
    source = open_source(data, [student] if student else None, teacher)

    from undistill.base.device import pick_device
    from undistill.metrics.evaluate import described
    from undistill.metrics.evaluate import evaluate as run
    from undistill.metrics.results import differing

    if out is not None:
        asked = described(source, folders, span, features, min_side, limit)
        refuse_others(out, partial(differing, out, asked, baselines), overwrite=overwrite)
    results = run(source, folders, span, features, min_side, limit, pick_device(device), baselines)
    print_results(form, results.show, results.to_markdown, results.to_json())
    if out is not None:
        results.write(out)
        say(f"-> {out}", err=form != "text")
