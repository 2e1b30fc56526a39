"""Figures as PNG: a map of the faces, and the pairs that are most alike."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from undistill.base.errors import Failure
from undistill.base.files import replacing
from undistill.dataset.samples import Sample, pixels_of
from undistill.diversity.embedding import FacePair
from undistill.images import Pixels

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
"""Of the groups, in their order; told apart by the colour-blind too (Okabe & Ito 2008)."""
CELLS = 18
"""Thumbnails along a side of the map."""
THUMB = 96
"""Side of a picture, px."""


def write_map(
    path: Path, places: NDArray[np.float64], samples: Sequence[Sample], groups: Sequence[str], method: str
) -> None:
    """Two panels: pictures where their faces are, as many as have room, and all faces as dots, by group.

    Args:
        places: (n, 2).
        groups: of each sample, its group.
        method: what made the map, for its title.
    """
    names = list(dict.fromkeys(groups))
    colour = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    low, high = places.min(0), places.max(0)
    unit = (places - low) / np.where(high > low, high - low, 1)  # lengths in such a map mean nothing anyway
    figure = _figure(14, 7.4)
    pictures, dots = figure.subplots(1, 2)
    for (column, row), number in _one_a_cell(unit).items():
        extent = (column / CELLS, (column + 0.94) / CELLS, row / CELLS, (row + 0.94) / CELLS)
        pictures.imshow(_thumbnail(samples[number]), extent=extent, interpolation="lanczos")
        left, right, bottom, top = extent
        edges = [left, right, right, left, left], [bottom, bottom, top, top, bottom]
        pictures.plot(*edges, color=colour[groups[number]], linewidth=1.6)
    for name in names:
        own = unit[[group == name for group in groups]]
        dots.scatter(*own.T, s=14, color=colour[name], alpha=0.7, linewidths=0, label=f"{name} (n = {len(own)})")
    dots.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=min(4, len(names)), frameon=False)
    for axes in (pictures, dots):
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.axis("off")
    figure.suptitle(method, fontsize=11)
    _save(figure, path)


def _one_a_cell(unit: NDArray[np.float64]) -> dict[tuple[int, int], int]:
    """For each cell of the unit square that holds a face, the face nearest to its middle."""
    cells = np.minimum((unit * CELLS).astype(int), CELLS - 1)
    far = np.square(unit * CELLS - cells - 0.5).sum(1)
    chosen: dict[tuple[int, int], int] = {}
    for number in np.argsort(far, kind="stable").tolist():
        chosen.setdefault((int(cells[number, 0]), int(cells[number, 1])), number)
    return chosen


def write_pairs(path: Path, pairs: Mapping[str, Sequence[FacePair]], samples: Mapping[str, Sequence[Sample]]) -> None:
    """A row for each group: its nearest pairs side by side, and under each how far apart they are.

    Args:
        pairs: by group.
        samples: by group, what the places of its pairs mean.
    """
    columns = max(map(len, pairs.values()))
    figure = _figure(max(5, 1.9 * columns), 1.55 * len(pairs))
    grid = figure.subplots(len(pairs), columns, squeeze=False)
    for row, (name, near) in zip(grid, pairs.items(), strict=True):
        for axes in row:
            axes.axis("off")
        for axes, pair in zip(row, near, strict=False):
            both = [_thumbnail(samples[name][number]) for number in (pair.one, pair.other)]
            axes.imshow(np.hstack(both), interpolation="lanczos")
            axes.set_title(f"{pair.distance:.3f}", y=-0.22, fontsize=9)
        row[0].text(0, 1.05, name, fontsize=10, transform=row[0].transAxes)
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Failure("figures need matplotlib: pip install 'undistill[diversity]'") from error
    return Figure((width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=110)


def _thumbnail(sample: Sample) -> Pixels:
    """(THUMB, THUMB, 3): its central square."""
    image = Image.fromarray(pixels_of(sample))
    return np.asarray(ImageOps.fit(image, (THUMB, THUMB), Image.Resampling.LANCZOS))
