"""What is in the gap that an extractor sees: framing, colour and light, detail, or what is in the pictures?

    python -m research.gap --student DIR --teacher DIR [--min-side PX] [--features NAME ...] -o gap.json

Writes for each extractor (docs/measure.md) the distance of student and teacher images in thousandths, what is left of
it where the student images are those whose faces lie and look most like the teacher's, and the gap closed by three sets
that no head has made: student images with the colour and light, or with the detail, of a teacher image, and teacher
images with those of a student image. Partners come from one half of the ids, and are measured against teacher images
of the other half: what was borrowed from an image must not be held against that image.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment

from research.figures import write_rows
from undistill.base.progress import progressed
from undistill.dataset import fold_of
from undistill.dataset.samples import ImageFolders, Sample, list_sides, pixels_of
from undistill.faces import Face, load_finder
from undistill.images import Pixels
from undistill.metrics.distance import Gap, Points, cross_fitted, fitted_on_others
from undistill.metrics.features import load_extractor
from undistill.metrics.jackknife import interval

OCTAVES = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations, px, between which detail is compared."""
MOST = 2.0
"""An octave is made stronger or weaker at most so many times."""

Float = NDArray[np.float64]


def _split(pixels: Pixels) -> Float:
    """Luminance and two colours, (H, W, 3)."""
    return np.asarray(Image.fromarray(pixels).convert("YCbCr"), np.float64)


def _joined(parts: Float) -> Pixels:
    return np.asarray(Image.fromarray(parts.round().clip(0, 255).astype(np.uint8), "YCbCr").convert("RGB"))


def with_colour(pixels: Pixels, like: Pixels) -> Pixels:
    """Mean and spread of luminance and colours of another image."""
    x, y = _split(pixels), _split(like)
    return _joined((x - x.mean((0, 1))) / (x.std((0, 1)) + 1e-6) * y.std((0, 1)) + y.mean((0, 1)))


def with_detail(pixels: Pixels, like: Pixels) -> Pixels:
    """Octaves of luminance as strong as in another image."""
    x = _split(pixels)
    out = x[..., 0].copy()
    for band, other in zip(_octaves(x[..., 0]), _octaves(_split(like)[..., 0]), strict=True):
        out += band * (np.clip(other.std() / (band.std() + 1e-6), 1 / MOST, MOST) - 1)
    return _joined(np.dstack([out, x[..., 1:]]))


def _octaves(light: Float) -> list[Float]:
    levels = [light, *(gaussian_filter(light, sigma) for sigma in OCTAVES)]
    return [fine - coarse for fine, coarse in pairwise(levels)]


def alike(students: Sequence[Sample], teachers: Sequence[Sample]) -> list[str]:
    """Ids of as many student images as there are teacher images, whose faces are framed most like these: `framing`."""
    find = load_finder()
    boxes: list[list[tuple[str, list[float]]]] = []
    for side in (students, teachers):
        found = []
        for sample in progressed("faces", side):
            pixels = pixels_of(sample)
            face = find(pixels)
            if face is not None:
                found.append((sample.id, framing(face)))
        boxes.append(found)
    x, y = (np.array([box for _, box in found]) for found in boxes)
    chosen, _ = linear_sum_assignment(np.square(x[:, None] - y).sum(2))
    return [boxes[0][place][0] for place in chosen]


def framing(face: Face) -> list[float]:
    """Where a face lies, in the image's shorter side: left, top and width of its box; and where it looks.

    The nose from the middle of the eyes, across (yaw) and down (pitch), and how far one eye is lower (roll), in
    distances of the eyes. A tenth of these counts: eyes are that much nearer to each other than an image's sides.
    """
    scale = 1 / min(face.pixels.shape[:2])
    box = [scale * value for value in (face.box.left(), face.box.top(), face.box.width())]
    points = np.array([(part.x, part.y) for part in face.landmarks.parts()], np.float64)
    eyes = np.stack([points[0:2].mean(0), points[2:4].mean(0)])
    across, down = eyes[1] - eyes[0]
    turned = (points[4] - eyes.mean(0)) / (np.hypot(across, down) + 1e-6)
    roll = down / (abs(across) + 1e-6)
    return [*box, *(0.1 * value for value in (*turned, roll))]


def main(
    student: Annotated[list[Path], typer.Option()],
    teacher: Annotated[list[Path], typer.Option()],
    min_side: Annotated[int, typer.Option()] = 400,
    features: Annotated[list[str] | None, typer.Option()] = None,
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("gap.json"),
) -> None:
    """Write what each extractor's gap is made of."""
    students, teachers = list_sides(ImageFolders(student, teacher), (0, 1), min_side=min_side)
    of_student, of_teacher = ({sample.id: pixels_of(sample) for sample in side} for side in (students, teachers))
    random = np.random.default_rng(0)

    def partner(sample: Sample, side: Sequence[Sample]) -> Pixels:
        others = [other.id for other in side if fold_of(other.id, 2) != fold_of(sample.id, 2)]
        return of_teacher[str(random.choice(others))]

    framed = set(alike(students, teachers))
    partners = {sample.id: partner(sample, teachers) for sample in students}
    swapped: dict[str, tuple[list[str], Callable[[str], Pixels]]] = {
        "colour and light": ([s.id for s in students], lambda id: with_colour(of_student[id], partners[id])),
        "detail": ([s.id for s in students], lambda id: with_detail(of_student[id], partners[id])),
        "content": (
            [s.id for s in students],
            lambda id: with_detail(with_colour(partners[id], of_student[id]), of_student[id]),
        ),
    }
    rows = []
    for name in features or ("appearance", "alex-2", "alex-4", "efficientnet-lite0"):
        extractor = load_extractor(name, torch.device("cpu"))
        x, y = (
            Points.of(side, [extractor(pixels[sample.id]) for sample in progressed(name, side)])
            for side, pixels in ((students, of_student), (teachers, of_teacher))
        )
        near = x.only(framed.__contains__)
        row: dict[str, Any] = {"extractor": name}
        for words, some in (("distance", x), ("faces alike", near)):
            gap = Gap(some, y, cross_fitted(some, y))
            row[words] = interval(1000 * gap.kid(gap.sides["student"], "teacher"), len(some.ids)).to_json()
        part = {sample.id: fold_of(sample.id, 2) for side in (students, teachers) for sample in side}
        gap = Gap(x, y, fitted_on_others(x, y, part))
        for words, (ids, make) in swapped.items():
            seen = [extractor(make(id)) for id in progressed(f"{name}, {words}", ids)]
            row[words] = gap.closed(gap.place(Points.of(students, seen))).to_json()
        rows.append(row)
        write_rows(rows, out, f"{len(students)} student and {len(teachers)} teacher images")


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
