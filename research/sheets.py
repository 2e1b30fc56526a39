"""Faces of native portraits at 100%: student, enhanced, and what a filter makes of the student, one below another.

    python -m research.sheets ../shared/native/schnell ENHANCED SHEET [--group beards] \
        [--results results.json --row colour]

ENHANCED holds the enhanced portraits by the same names (`undistill enhance`). The groups are people chosen by eye
(native_groups.json). The filter is a row of an evaluation, with the median of its folds' strengths; it matches the
images that were measured. Only sheets of the samples that ship may be committed (../shared/native/README.md).
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from research.native import SIDE, enhanced_of
from undistill.base.errors import UsageError
from undistill.base.progress import progressed
from undistill.dataset.samples import list_files, pixels_of
from undistill.faces import Face, load_finder
from undistill.images import Pixels
from undistill.metrics.baselines import Baseline, Filter, channel_statistics

GROUPS = json.loads(Path(__file__).with_name("native_groups.json").read_text())
COLUMNS = 12
SHOWN = 320
"""Side of the part of a portrait that is shown, px."""


def main(
    student: Path,
    enhanced: Path,
    sheet: Path,
    group: Annotated[str | None, typer.Option(help=f"One of {', '.join(GROUPS)}; without it some of all.")] = None,
    results: Annotated[Path | None, typer.Option(help="Of an evaluation of folders, with --row.")] = None,
    row: Annotated[str, typer.Option(help="The filter.")] = "colour",
) -> None:
    """Draw a sheet of up to twelve portraits."""
    samples = list_files([student], (0, 1))
    if group is not None:
        if group not in GROUPS:
            raise UsageError(f"no group {group}: take one of {', '.join(GROUPS)}")
        samples = [sample for sample in samples if sample.id in GROUPS[group]]
    samples = samples[:: max(1, len(samples) // COLUMNS)][:COLUMNS]
    filtered = None if results is None else filter_of(results, row)
    find, columns = load_finder(), []
    for sample in progressed("portraits", samples):
        whole = [pixels_of(sample), pixels_of(enhanced_of(sample, enhanced))]
        if filtered is not None:
            whole.append(filtered(whole[0], sample.id))
        centre = centre_of_face(whole[0], find)
        columns.append(np.concatenate([cut(pixels, *centre) for pixels in whole]))
    Image.fromarray(np.concatenate(columns, axis=1)).save(sheet)


def filter_of(results: Path, row: str) -> Baseline:
    """The filter of an evaluation's row: the median of its folds' strengths."""
    settings = json.loads(results.read_text())["settings"]
    if row not in settings["baselines"]:
        raise UsageError(f"{results} has no filter {row}: take one of {', '.join(settings['baselines'])}")
    folds = settings["baselines"][row]
    strengths = {part: median(fold[part] for fold in folds) for part in folds[0]}
    looks = (
        channel_statistics(list_files([Path(folder) for folder in settings[side]], (0, 1), 1.0, settings["min_side"]))
        for side in ("student", "teacher")
    )
    return Baseline(Filter(**strengths), *looks)


def centre_of_face(pixels: Pixels, find: Callable[[Pixels], Face | None]) -> tuple[int, int]:
    """x and y; of the picture, where no face is found."""
    height, width = pixels.shape[:2]
    scale = min(height, width) / SIDE
    small = Image.fromarray(pixels).resize((round(width / scale), round(height / scale)), Image.Resampling.LANCZOS)
    face = find(np.asarray(small))
    if face is None:
        return width // 2, height // 2
    centre = face.box.center()
    return round(scale * centre.x), round(scale * centre.y)


def cut(pixels: Pixels, x: int, y: int) -> Pixels:
    """(SHOWN, SHOWN, 3) around a point, as far as the picture goes."""
    height, width = pixels.shape[:2]
    left, top = (min(max(0, at - SHOWN // 2), side - SHOWN) for at, side in ((x, width), (y, height)))
    return pixels[top : top + SHOWN, left : left + SHOWN]


if __name__ == "__main__":
    typer.run(main)
