r"""Train `tiny`, stage by stage, from a folder of portraits:

    python -m research.tiny.train --data ../shared/portraits --stage autoencoder
    python -m research.tiny.train --data ../shared/portraits --stage flow
    python -m research.tiny.train --data ../shared/portraits --stage guidance
    python -m research.tiny.train --data ../shared/portraits --stage steps
    python -m research.tiny.train --data ../shared/portraits --stage realism

The pair of 128 px, from the faces of two folders, with `distillation` instead of `steps`:

    python -m research.tiny.train --data ../shared/portraits --data ../shared/native \
        --recipes research/tiny/recipes/128 -o run/tiny128 --stage autoencoder

Each stage follows recipes/STAGE.yaml, keeps its run in OUT/STAGE, goes on where it stopped when it is started
again, and at its end puts what it made into OUT/tiny-autoencoder, OUT/tiny-flow, OUT/tiny-dev, OUT/tiny-schnell or
OUT/tiny-realism-lora.
"""

from pathlib import Path
from typing import Annotated

import typer

from research.tiny.recipe import STAGES, read_stage
from undistill.base.command import run
from undistill.base.errors import UsageError
from undistill.base.libraries import quiet
from undistill.training.folder import check_folder, check_inventory, open_folder
from undistill.training.loop import INTERRUPTED, fit, start


def main(
    data: Annotated[
        list[Path], typer.Option(help="A folder of portraits with portraits.csv or native.csv; repeatable.")
    ],
    stage: Annotated[str, typer.Option(help=f"{', '.join(STAGES)}, in this order.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of all the runs.")] = Path("run/tiny"),
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps in all.")] = None,
    recipes: Annotated[Path, typer.Option(help="Folder of the recipes.")] = Path(__file__).parent / "recipes",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train one stage of tiny, or go on with it."""
    if stage not in STAGES:
        raise UsageError(f"no stage {stage}: {', '.join(STAGES)}")
    with quiet():  # transformers remarks on import that torchvision is not here
        from research.tiny.stages import earlier, inventory, prepare_stage, split_faces
    recipe = read_stage(recipes / f"{stage}.yaml")
    fabric = start(recipe, device)
    faces, before, folder = split_faces(data, recipe.faces.side), earlier(recipe, out), out / stage
    begins = inventory(faces, before)
    check_folder(folder, recipe)
    check_inventory(folder, begins)
    open_folder(folder, recipe, begins)
    with quiet():
        prepared = prepare_stage(recipe, fabric, faces, before, out)
    step, ended = fit(fabric, prepared.method, recipe, prepared.training, prepared.validation, folder, max_steps)
    if ended in INTERRUPTED:
        typer.echo(f"stopped at step {step}; the same command goes on from there", err=True)
        raise SystemExit(128 + INTERRUPTED[ended])  # typer.Exit(130) is how typer tells of a KeyboardInterrupt
    with quiet():
        made = prepared.export()
    typer.echo(f"{ended} at step {step} -> {made}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
