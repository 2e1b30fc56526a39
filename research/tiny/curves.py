"""Draw the learning curves of tiny's stages: python -m research.tiny.curves RUNS PICTURE.png"""

import csv
from pathlib import Path
from typing import Annotated

import typer

from research.tiny.recipe import STAGES
from undistill.base.command import run
from undistill.base.errors import Failure, UsageError
from undistill.base.files import replacing


def read_curves(table: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each loss in a `metrics.csv`."""
    curves: dict[str, list[tuple[int, float]]] = {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("step", "epoch", "lr"):
                    curves.setdefault(name, []).append((int(row["step"]), float(value)))
    return curves


def main(
    runs: Annotated[Path, typer.Argument(help="Folder of all the runs.")],
    out: Annotated[Path, typer.Argument(help="The picture, PNG.")],
) -> None:
    """Draw the learning curves of the stages that there are."""
    tables = {stage: runs / stage / "metrics.csv" for stage in STAGES if (runs / stage / "metrics.csv").exists()}
    if not tables:
        raise UsageError(f"{runs} holds no run of a stage of tiny ({', '.join(STAGES)})")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Failure("curves need matplotlib: pip install 'undistill[report]'") from error

    figure = Figure(figsize=(4 * len(tables), 3), layout="constrained")
    for axes, (stage, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        for name, points in read_curves(table).items():
            axes.plot(*zip(*points, strict=True), label=name, linewidth=1, marker="." if name.startswith("val") else "")
        axes.set(title=stage, xlabel="step", yscale="log")
        axes.legend(fontsize="small")
    with replacing(out) as beside:
        figure.savefig(beside, format="png", dpi=100)
    typer.echo(f"curves of {', '.join(tables)} -> {out}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
