"""undistill train"""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from undistill.base.errors import UsageError
from undistill.base.output import say


def train(
    recipe: Annotated[Path, typer.Argument(help="A shipped one (`undistill recipes`), or a YAML file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the run.")],
    data: Annotated[Path | None, typer.Option(help="A pairs data set, or else:")] = None,
    student: Annotated[list[Path] | None, typer.Option(help="Folder of student images; may be repeated.")] = None,
    teacher: Annotated[list[Path] | None, typer.Option(help="Folder of teacher images; may be repeated.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Train on this, not on the recipe's: train, val, test, all or LO:HI.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, e.g. data.crop=128.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Train so many more heads, each without its part of the ids, to measure.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that can't be used, pairs with their twin.")
    ] = False,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps in all.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a head; it ends up in OUT/head, which `undistill enhance --head` takes.

    With --folds, OUT/fold-0 and so on are runs that have not seen a part of the images: `undistill enhance --folds`.

    All images are decoded once before the first step; what was found whole is remembered.

    Run it again to go on: after an interrupt, a crash, or with a larger --max-steps.
    """
    import yaml

    from undistill.dataset import fold_folder
    from undistill.dataset.samples import open_source
    from undistill.training import find_recipe
    from undistill.training.folder import fold_recipe
    from undistill.training.loop import INTERRUPTED
    from undistill.training.ranks import first
    from undistill.training.recipe import change_recipe, read_recipe
    from undistill.training.run import train as run

    changed: dict[str, Any] = {} if split is None else {"data.train": split}
    for change in changes or []:
        key, _, value = change.partition("=")
        try:
            # YAML 1.1 reads the split 0:0.5 as a number of base 60.
            changed[key] = value if re.fullmatch(r"[\d.]+:[\d.]+", value) else yaml.safe_load(value)
        except yaml.YAMLError:
            key = ""
        if not key or "=" not in change:
            raise UsageError(f"--set {change}: write KEY=VALUE, e.g. data.crop=128")
    followed = change_recipe(read_recipe(find_recipe(recipe)), changed)
    source = open_source(data, student, teacher)
    runs = {out: followed}
    if folds is not None:
        runs |= {fold_folder(out, fold): fold_recipe(followed, fold, folds) for fold in range(folds)}
    for folder, each in runs.items():
        result = run(each, source, folder, max_steps=max_steps, device=device, skip_broken=skip_broken)
        if result.head is None:
            if first():
                typer.echo(f"stopped at step {result.step}; the same command goes on from there", err=True)
            raise SystemExit(
                128 + INTERRUPTED[result.ended]
            )  # typer.Exit(130) is how typer tells of a KeyboardInterrupt
        if first():
            say(f"{result.ended} at step {result.step} -> {result.head}")
