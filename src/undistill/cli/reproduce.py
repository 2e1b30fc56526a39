"""undistill reproduce"""

from pathlib import Path
from typing import Annotated

import typer

from undistill.base.errors import UsageError
from undistill.base.lock import locked
from undistill.base.output import say
from undistill.cli.options import call_verb

PORTRAITS = Path("../shared/portraits")
NEEDS = {"dlib": "diversity", "openTSNE": "diversity", "matplotlib": "diversity", "skimage": "quality"}


def reproduce(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for all that is made; index.html is the page.")],
    pair: Annotated[str, typer.Option(help="A shipped pair (tiny, flux1), or a pair spec (YAML).")] = "tiny",
    quick: Annotated[
        bool, typer.Option("--quick", help="A few minutes on two cores: too few images to quote.")
    ] = False,
    train: Annotated[
        Path | None,
        typer.Option(
            metavar="RECIPES",
            help="Train the heads, the ablation and the sweep too, by the recipes of a folder, or the shipped ones of "
            "a name like tiny; it takes hours.  "
            "[default: shipped heads, stored results]",
        ),
    ] = None,
    portraits: Annotated[
        Path | None,
        typer.Option(help=f"Real FLUX.1 images, measured too: a folder with tiles/.  [default: {PORTRAITS}, if there]"),
    ] = None,
) -> None:
    """Draw, measure and lay out everything that the paper reports, beside the paper's own figures.

    Runs other commands, which the page names. Run it again to go on.
    """
    from importlib.util import find_spec

    needs = NEEDS | ({"optuna": "sweep"} if train else {})
    missing = [extra for module, extra in needs.items() if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"this needs what it measures with: pip install -c constraints.txt -e '.[{','.join(missing)}]'"
        )
    if portraits is None and (PORTRAITS / "tiles").is_dir():
        portraits = PORTRAITS
    if portraits is not None and not (portraits / "tiles" / "schnell").is_dir():
        raise UsageError(f"{portraits} holds no tiles/schnell: --portraits takes a folder like ../shared/portraits")
    if train is not None and not train.is_dir():
        from undistill.training import RECIPES

        if not (RECIPES / train).is_dir():
            raise UsageError(f"{train} is no folder of recipes: --train takes one like recipes/tiny, or the name tiny")
        train = RECIPES / train

    from undistill.reproduce import PAGE
    from undistill.reproduce import reproduce as run

    with locked(out):
        run(pair, out, quick, train, portraits, call_verb, lambda text: say(text, err=True))
    say(out / PAGE)
