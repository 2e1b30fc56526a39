"""What tells student from teacher, and which distance sees it steadily?

    python -m undistill.metrics --student DIR --teacher DIR [--split LO:HI] [--min-side PX]

Prints two tables: light, colour and detail of both sides outside the split (docs/heads.md), and the gap between them in
the split, its error and the floors for several distances (docs/measure.md). "gap / error": D(student) by its standard
error, by the jackknife. Floors: one half of a set to the other half, which should be 0.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from undistill.dataset.samples import ImageFolders, Sides, list_sides, pixels_of
from undistill.dataset.split import parse_split
from undistill.errors import UsageError
from undistill.metrics.appearance import appearance
from undistill.metrics.distance import DIMENSIONS, Gap, Kernel, Points, Projection, cubic, gaussian
from undistill.metrics.evaluate import divide
from undistill.metrics.features import Features, cut_crops, load_extractor, pictures
from undistill.metrics.jackknife import Vector, groups_of, interval, mean_value, standard_error
from undistill.progress import progressed

Space = Callable[[Sequence[str], Sequence[Features]], Points]
DISTANCES: dict[str, tuple[Kernel, Callable[[Gap, Points, str], Vector]]] = {
    "KID, Gaussian": (gaussian, Gap.kid),
    "KID, cubic": (cubic, Gap.kid),
    "FD": (gaussian, Gap.fd),
}


def standardised(fitted: Sequence[Features], *, each: bool) -> Space:
    """Features less their mean, over the spread of each channel or that of all of them."""
    crops = np.concatenate(list(fitted))
    spread = crops.std(0) + 1e-6 if each else np.sqrt(crops.var(0).mean())
    return lambda ids, features: Points(ids, ((np.stack(list(features)) - crops.mean(0)) / spread).astype(np.float32))


def unwhitened(project: Projection) -> Space:
    scale = project.spread / np.sqrt(np.square(project.spread).mean())

    def space(ids: Sequence[str], features: Sequence[Features]) -> Points:
        points = project(ids, features)
        return Points(ids, (points.x * scale).astype(np.float32))

    return space


def _print_appearance(sides: Sides) -> None:
    print("| | middle: student | teacher | corners: student | teacher |")
    print("| --- | --- | --- | --- | --- |")
    rows: dict[str, list[str]] = {}
    seen = [[cut_crops(pixels_of(sample)) for sample in progressed("appearance", side)] for side in sides]
    for crops in (slice(0, 1), slice(1, None)):
        for side in seen:
            found = [appearance(image[crops]) for image in side]
            for name in found[0]:
                value = mean_value([one[name] for one in found])
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
    everything = list_sides(ImageFolders([student], teacher), (0, 1), min_side=min_side)
    inside, outside = divide(everything, parse_split(split))
    _print_appearance(outside)
    groups = groups_of(sample.id for side in inside for sample in side)
    print("| features | space | distance | gap | gap / error | floors: student, teacher |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in ("alex-1", "alex-2", "alex-3", "alex-4", "alex-5", "efficientnet-lite0"):
        extractor = load_extractor(name, torch.device("cpu"))
        fitted = list(extractor.each(pictures([*outside[0], *outside[1]]), name))
        sides = [([s.id for s in side], list(extractor.each(pictures(side), name))) for side in inside]
        whitened = Projection(fitted)
        spaces: dict[str, Space] = {
            "as they are": standardised(fitted, each=False),
            "standardised": standardised(fitted, each=True),
            f"PCA {DIMENSIONS}": unwhitened(whitened),
            f"whitened {DIMENSIONS}": whitened,
            "whitened 16": Projection(fitted, 16),
        }
        for space, project in spaces.items():
            x, y = (project(ids, features) for ids, features in sides)
            for distance, (kernel, measure) in DISTANCES.items():
                biased = measure is Gap.fd
                if biased and x.x.shape[-1] > 4 * DIMENSIONS:
                    continue  # more dimensions than images
                gap = Gap(x, y, groups, kernel=kernel)
                theta = measure(gap, x, "teacher")
                found = interval(theta, len(x.ids), biased)
                floors = [interval(gap.floor(side, measure), 0, biased).value for side in ("student", "teacher")]
                if found.value is None or None in floors:
                    continue
                error = standard_error(theta)
                cells = f"{found.value:.3g} | {found.value / error:.1f} | {floors[0]:.2g}, {floors[1]:.2g}"
                print(f"| {name} | {space} | {distance} | {cells} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
