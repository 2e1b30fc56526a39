"""undistill demo"""

from pathlib import Path
from typing import Annotated

import typer

from undistill.base.errors import UsageError
from undistill.base.lock import locked
from undistill.base.output import say


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the images, results.json and the page.")] = Path(
        "demo"
    ),
    pair: Annotated[str, typer.Option(help="A shipped pair, or a pair spec (YAML); it names a head.")] = "tiny",
) -> None:
    """Show all of undistill on a laptop: draw, enhance, measure, and write a page about it.

    Three minutes on two cores, offline. Run it again to go on: images are kept.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; -o takes a folder")

    import time

    start = time.monotonic()

    from undistill.demo import PAGE
    from undistill.demo import demo as run
    from undistill.report.words import cost_sentence, gap_sentence, identity_sentence

    with locked(out):
        results = run(pair, out)
    rows, (head,) = results["rows"], results["settings"]["enhanced"]
    for sentence in (gap_sentence(rows, head), identity_sentence(rows, head), cost_sentence(results["cost"], head)):
        typer.echo(sentence)
    say(f"{time.monotonic() - start:.0f} s")
    say(out / PAGE)
