"""One table from evaluations of several heads by several extractors.

    python -m research.compared "as it is=RUNS/flux1" "`--set even=0`=RUNS/even" -o docs/figures/flux1-variants.json

Each folder holds what `undistill evaluate --features NAME --enhanced HEAD=... -o FOLDER/NAME.json` left, of one head.
What does not hang on the extractor (likeness, identity) is taken from the first.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from research.figures import Row, write_rows
from undistill.base.errors import UsageError

ONCE = {"LPIPS to the student": "lpips_student", "identity to the student": "identity", "age drift, years": "age_drift"}


def main(
    rows: Annotated[list[str], typer.Argument(help="NAME=FOLDER, a row each.")],
    out: Annotated[Path, typer.Option("-o", "--out")],
    features: Annotated[list[str], typer.Option()] = ["appearance", "efficientnet-lite0", "alex-2", "alex-4"],  # noqa: B006
) -> None:
    """Write the table."""
    named = [row.rpartition("=") for row in rows]
    found = [compared(name, Path(folder), features) for name, _, folder in named]
    (n,) = {json.dumps(images) for _, images in found}
    sides = json.loads(n)
    write_rows([row for row, _ in found], out, f"{sides['student']} student and {sides['teacher']} teacher images")


def compared(name: str, folder: Path, features: list[str]) -> tuple[Row, dict[str, Any]]:
    """A row, and how many images it rests on.

    Raises:
        UsageError: the folder lacks an evaluation, or one is of several heads.
    """
    row: Row = {"": name}
    images: dict[str, Any] = {}
    for feature in features:
        path = folder / f"{feature}.json"
        if not path.exists():
            raise UsageError(f"{path} is missing: undistill evaluate --features {feature} ... -o {path}")
        results = json.loads(path.read_text())
        heads = results["settings"]["enhanced"]
        if len(heads) != 1:
            raise UsageError(f"{path} is of {len(heads)} heads: evaluate one at a time")
        measured = results["rows"][next(iter(heads))]
        row[f"`{feature}`"] = measured["gap_closed"]
        if not images:
            images = results["settings"]["images"]
            row |= {words: measured[key] for words, key in ONCE.items()}
    return row, images


if __name__ == "__main__":
    typer.run(main)
