"""Does the measure call other images of the teacher a closed gap, and other images of the student an open one?

    python -m research.fresh_faces ../shared/portraits/faces [--draws 3] [--images 40 --images 200]

Real faces: FLUX.1-schnell's as the student's, SDXL's as the teacher's; in the place of enhanced ones others of SDXL,
which close 1, and others of schnell, which close 0 (where there are enough of them). For each number of images a side,
draw and way of fitting the space it prints the gap closed: "same", fitted on the student's and the teacher's images
that are measured; "cross-fitted", as `undistill evaluate` does where nothing else is there.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from undistill.dataset.samples import ImageFile
from undistill.metrics.distance import Gap, Points, Space, cross_fitted, fitted_on
from undistill.metrics.extraction import extract
from undistill.metrics.features import load_extractor
from undistill.metrics.jackknife import Value

WAYS: dict[str, Callable[[Points, Points], list[Space]]] = {"same": fitted_on, "cross-fitted": cross_fitted}


def main(
    faces: Path,
    draws: Annotated[int, typer.Option()] = 3,
    images: Annotated[list[int] | None, typer.Option(help="A side; may be repeated.  [default: 40, 200]")] = None,
) -> None:
    """Print how much of the gap other images of either side close, by space, number of images and draw."""
    extractor = load_extractor("efficientnet-lite0", torch.device("cpu"))
    seen = {}
    for model in ("schnell", "sdxl"):
        samples = [ImageFile(path) for path in sorted((faces / model).iterdir())]
        seen[model] = Points.of(samples, extract(model, samples, [extractor])[extractor.name])
    print("| images a side | draw | space | other teacher images close | other student images close |")
    print("| --- | --- | --- | --- | --- |")
    for n in images or (40, 200):
        for draw in range(draws):
            shuffled = {model: _reordered(points, draw) for model, points in seen.items()}
            student, teacher = _some(shuffled["schnell"], 0, n, "s"), _some(shuffled["sdxl"], 0, n, "t")
            for way, fit in WAYS.items():
                gap = Gap(student, teacher, fit(student, teacher))
                others = (_some(shuffled[model], n, n, "s") for model in ("sdxl", "schnell"))
                cells = [_say(gap.closed(gap.place(x))) if len(x.ids) == n else "too few" for x in others]
                print(f"| {n} | {draw + 1} | {way} | {' | '.join(cells)} |", flush=True)


def _reordered(points: Points, seed: int) -> Points:
    order = np.random.default_rng(seed).permutation(len(points.ids))
    return Points([points.ids[place] for place in order], points.x[order])


def _some(points: Points, first: int, n: int, name: str) -> Points:
    x = points.x[first : first + n]
    return Points([f"{name}{k}" for k in range(len(x))], x)


def _say(value: Value) -> str:
    if value.value is None or value.low is None or value.high is None:
        return "can't be told apart"
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


if __name__ == "__main__":
    typer.run(main)
