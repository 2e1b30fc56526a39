"""What tells student from teacher, and which distance sees it steadily?

    python -m research.distances --student DIR --teacher DIR [--split LO:HI] [--min-side PX]

Prints two tables: light, colour and detail of both sides outside the split (docs/heads.md), and the gap between them in
the split, its error and the floors for several distances (docs/measure.md). "gap / error": D(student) by its standard
error, by the jackknife. Floors: one half of a set to the other half, which should be 0.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from undistill.base.errors import UsageError
from undistill.base.progress import progressed
from undistill.dataset import parse_split
from undistill.dataset.samples import ImageFolders, Sides, list_sides, pixels_of
from undistill.metrics.appearance import NAMES, appearance
from undistill.metrics.distance import Gap, Kernel, Placed, Points, Space, cubic, fitted_on, gaussian
from undistill.metrics.evaluate import divide
from undistill.metrics.extraction import Features, extract
from undistill.metrics.features import cut_crops, load_extractor
from undistill.metrics.jackknife import Vector, interval, mean_value, standard_error
from undistill.metrics.whitening import DIMENSIONS

DISTANCES: dict[str, tuple[Kernel, Callable[[Gap, Placed, str | Placed], Vector]]] = {
    "KID, Gaussian": (gaussian, Gap.kid),
    "KID, cubic": (cubic, Gap.kid),
    "FD": (gaussian, Gap.fd),
}


def standardised(fitted: Features, *, each: bool) -> Space:
    """Features less their mean, over the spread of each channel or that of all of them."""
    mean = fitted.mean(0)
    spread = fitted.std(0) + 1e-6 if each else np.sqrt(fitted.var(0).mean())
    return Space(lambda x: ((x - mean) / spread).astype(np.float32), np.ones(fitted.shape[-1]))


def unwhitened(whitened: Space) -> Space:
    """A whitened space with the spread of each direction put back, over that of all of them."""
    scale = whitened.spread / np.sqrt(np.square(whitened.spread).mean())
    return Space(lambda x: (whitened.project(x) * scale).astype(np.float32), np.ones(len(scale)))


def _print_appearance(sides: Sides) -> None:
    print("| | middle: student | teacher | corners: student | teacher |")
    print("| --- | --- | --- | --- | --- |")
    rows: dict[str, list[str]] = {}
    seen = [[cut_crops(pixels_of(sample)) for sample in progressed("appearance", side)] for side in sides]
    for crops in (slice(0, 1), slice(1, None)):
        for side in seen:
            found = [appearance(image[crops]).mean(0).tolist() for image in side]
            for name, values in zip(NAMES, zip(*found, strict=True), strict=True):
                value = mean_value(values)
                if value.value is None or value.high is None:
                    raise UsageError("an interval needs two images a side")
                rows.setdefault(name, []).append(f"{value.value:.3f} ± {value.high - value.value:.3f}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")
    print(flush=True)


def main(
    student: Annotated[Path, typer.Option()],
    teacher: Annotated[list[Path], typer.Option()],
    split: Annotated[str, typer.Option()] = "0.5:1",
    min_side: Annotated[int, typer.Option()] = 0,
) -> None:
    """Print what tells the sides apart, and how steadily each distance sees it."""
    inside, outside = divide(
        list_sides(ImageFolders([student], teacher), (0, 1), min_side=min_side), parse_split(split)
    )
    if outside is None:
        raise UsageError(f"split {split}: too few images are left to fit on")
    _print_appearance(outside)
    print("| features | space | distance | gap | gap / error | floors: student, teacher |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in ("alex-1", "alex-2", "alex-3", "alex-4", "alex-5", "efficientnet-lite0"):
        extractor = load_extractor(name, torch.device("cpu"))
        fitted, measured = (
            [Points.of(side, extract(name, side, [extractor])[extractor.name]) for side in sides]
            for sides in (outside, inside)
        )
        rows = np.concatenate([points.x.reshape(-1, points.x.shape[-1]) for points in fitted])
        (whitened,), (sixteen,) = fitted_on(*fitted), fitted_on(*fitted, dimensions=16)
        spaces = {
            "as they are": standardised(rows, each=False),
            "standardised": standardised(rows, each=True),
            f"PCA {DIMENSIONS}": unwhitened(whitened),
            f"whitened {DIMENSIONS}": whitened,
            "whitened 16": sixteen,
        }
        for space, project in spaces.items():
            for distance, (kernel, measure) in DISTANCES.items():
                gap = Gap(measured[0], measured[1], [project], kernel)
                x = gap.sides["student"]
                biased = distance == "FD"
                if biased and x[0].x.shape[-1] > 4 * DIMENSIONS:
                    continue  # more dimensions than images
                theta = measure(gap, x, "teacher")
                found = interval(theta, len(x[0].ids), biased)
                floors = [interval(gap.floor(side, measure), 0, biased).value for side in ("student", "teacher")]
                if found.value is None or None in floors:
                    continue
                error = standard_error(theta)
                cells = f"{found.value:.3g} | {found.value / error:.1f} | {floors[0]:.2g}, {floors[1]:.2g}"
                print(f"| {name} | {space} | {distance} | {cells} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
