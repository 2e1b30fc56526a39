"""Where a fit's images come from: a pair that draws them, a pairs data set, or folders."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from undistill.base.errors import UsageError
from undistill.dataset.samples import ImageFolders, Source, list_files, open_source
from undistill.dataset.shard import DESCRIPTION, Pairs, read_description
from undistill.fit.budget import FEWEST_PAIRS
from undistill.fit.plan import PAIRS
from undistill.fit.request import Request
from undistill.pairs.spec import PairSpec
from undistill.steps import pair_anywhere

FEWEST_IMAGES = 60
"""A side, of those that are there: a third is measured, and below 20 the measure says nothing."""


@dataclass(frozen=True)
class Images:
    """What is known of them before anything is drawn.

    Args:
        spec: the pair that draws them; None: they are there.
        size: shorter side, px; that of half of them.
        paired: both sides show the same persons.
        there: how many, where they are there; else 0.
    """

    spec: PairSpec | None
    size: int
    paired: bool
    there: int = 0

    @property
    def words(self) -> str:
        """What they are called."""
        if self.spec is not None:
            return f"pairs of {self.spec.name}"
        return "pairs" if self.paired else "student images"


def find_images(request: Request) -> Images:
    """Raises:
    UsageError: no such pair, data set or folder, or too few images.
    """
    if request.pair is not None:
        spec, _ = pair_anywhere(request.pair)
        return Images(spec, spec.size, spec.teacher.start == "student")
    if request.data is not None:
        data = Pairs(Path(request.data))
        teacher = data.description.pair.get("teacher", {})
        images = Images(None, data.description.size, teacher.get("start") != "text", len(data))
    else:
        assert request.student is not None
        students = list_files([Path(request.student)], (0, 1))
        list_files([Path(teacher) for teacher in request.teacher], (0, 1))
        images = Images(None, round(median(min(s.size) for s in students[:100])), False, len(students))
    if images.there < FEWEST_IMAGES:
        raise UsageError(f"{images.there} {images.words} are too few: it takes {FEWEST_IMAGES} to train and to measure")
    return images


def open_images(request: Request) -> Source:
    """The images that are there, or that were drawn into the working folder."""
    if request.student is not None:
        return ImageFolders([Path(request.student)], [Path(teacher) for teacher in request.teacher])
    return open_source(Path(request.data or PAIRS), None, None)


def drawn_pairs(out: Path) -> int:
    """How many pairs were asked of the data set in a fit's folder before; 0: none."""
    return read_description(out / PAIRS).rows if (out / PAIRS / DESCRIPTION).exists() else 0


def refuse_few(count: int | None) -> None:
    """Raises:
    UsageError: so few pairs tell nothing.
    """
    if count is not None and count < FEWEST_PAIRS:
        raise UsageError(f"--count {count} is too small to measure anything: it takes {FEWEST_PAIRS} pairs")
