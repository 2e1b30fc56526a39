"""undistill sweep"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from undistill.base.errors import UsageError
from undistill.base.output import say
from undistill.cli.options import FormatOption, print_results

sweep = typer.Typer(help="Train over a grid of a recipe's values, and compare.", no_args_is_help=True)


@sweep.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="SWEEP", help="A shipped one, e.g. paper-sweep, or a YAML file.")],
    data: Annotated[Path, typer.Option(help="A pairs data set.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the sweep.")],
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop each cell after so many steps.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with a cell at a time.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train every cell of a sweep's grids.

    Run it again to go on, after whatever stopped it; run it twice at the same time, and they share the cells.
    """
    _needs_optuna()

    from undistill.dataset.shard import Pairs
    from undistill.training import find_recipe
    from undistill.training.sweep import check_cells, open_sweep, read_sweep, results, train_cells
    from undistill.training.workers import work_together

    studies = read_sweep(find_recipe(file))
    pairs = Pairs(data)
    check_cells(studies, pairs, device)
    open_sweep(studies, pairs, out, max_steps)
    if workers == 1:
        stopped = train_cells(studies, pairs, out, max_steps, device, say)
    else:
        stopped = work_together(studies, data, out, max_steps, device, workers)
    if stopped is not None:
        typer.echo("interrupted; the same command goes on", err=True)
        raise SystemExit(128 + stopped)  # typer.Exit(130) is how typer tells of a KeyboardInterrupt
    states = [cell["state"] for study in results(out)["studies"].values() for cell in study["cells"]]
    elsewhere = states.count("running")
    done = len(states) - elsewhere - states.count("waiting")
    say(
        f"{done} of {len(states)} cells done"
        + (f", {elsewhere} with another process" if elsewhere else "")
        + f" -> {out}; `undistill sweep report {out}`"
    )


@sweep.command()
def report(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="A sweep's folder.")],
    form: FormatOption = "text",
) -> None:
    """Print a table for each study, cells that are not done as "-", and write FOLDER/report.json."""
    _needs_optuna()

    from undistill.training.sweep import results, show, to_markdown, write_report

    found = results(out)
    write_report(found, out)
    print_results(form, partial(show, found), partial(to_markdown, found), found)


def _needs_optuna() -> None:
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise UsageError("a sweep needs Optuna: pip install 'undistill[sweep]'")
