"""Where a fit's images come from: a pair that draws them, a pairs data set, or folders."""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import median

from undistill.base.errors import UsageError
from undistill.dataset.samples import ImageFolders, Source, list_files, list_sides, open_source
from undistill.dataset.shard import DESCRIPTION, Pairs, finished_shards, read_description
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
        there: how many, of the side that has fewer, where they are there; else 0.
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
        return "pairs" if self.paired else "images a side"


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
        teachers = list_files([Path(teacher) for teacher in request.teacher], (0, 1))
        size = round(median(min(sample.size) for sample in students[:100]))
        images = Images(None, size, False, min(len(students), len(teachers)))
    return _enough(images, "")


def large_enough(images: Images, request: Request, min_side: int) -> Images:
    """Without those in folders whose shorter side is less, px.

    Raises:
        UsageError: too few are left.
    """
    if request.student is None or not min_side:
        return images
    students, teachers = list_sides(open_images(request), (0, 1), min_side=min_side)
    return _enough(replace(images, there=min(len(students), len(teachers))), f" of {min_side} px or more")


def _enough(images: Images, which: str) -> Images:
    if images.there < FEWEST_IMAGES:
        raise UsageError(
            f"{images.there} {images.words}{which} are too few: it takes {FEWEST_IMAGES} to train and to measure"
        )
    return images


def open_images(request: Request) -> Source:
    """The images that are there, or that were drawn into the working folder."""
    if request.student is not None:
        return ImageFolders([Path(request.student)], [Path(teacher) for teacher in request.teacher])
    return open_source(Path(request.data or PAIRS), None, None)


def drawn_pairs(out: Path) -> int:
    """How many pairs lie in whole shards of a fit's folder."""
    if not (out / PAIRS / DESCRIPTION).exists():
        return 0
    description = read_description(out / PAIRS)
    size = description.shard_size
    starts = [number * size for number in finished_shards(out / PAIRS, description)]
    return sum(min(size, description.rows - start) for start in starts)


def contents_of(request: Request) -> str:
    """A hash of what the images come from: when it differs, what was made of them before is of others.

    Raises:
        UsageError: no such pair or data set.
    """
    found: list[str] = []
    if request.pair is not None:
        found.append(pair_anywhere(request.pair)[0].hash())
    if request.names is not None:
        found.append(sha256(Path(request.names).read_bytes()).hexdigest())
    if request.data is not None:
        found += (f"{path.name} {path.stat().st_size}" for path in sorted(Path(request.data).glob("*.parquet")))
    for folder in (request.student, *request.teacher):
        images = sorted(Path(folder).rglob("*")) if folder is not None else []
        found += (f"{path} {path.stat().st_size}" for path in images if path.is_file())
    return sha256("\n".join(found).encode()).hexdigest()


def refuse_few(count: int | None) -> None:
    """Raises:
    UsageError: so few pairs tell nothing.
    """
    if count is not None and count < FEWEST_PAIRS:
        raise UsageError(f"--count {count} is too small to measure anything: it takes {FEWEST_PAIRS} pairs")
