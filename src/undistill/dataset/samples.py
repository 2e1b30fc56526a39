"""Which images: files in folders, and rows of pairs data sets.

Which of them fall into a split is a function of their ids alone: no image is read for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from undistill.base.errors import UsageError
from undistill.dataset import within
from undistill.dataset.enhanced import Enhanced
from undistill.dataset.shard import Pairs, Shard
from undistill.images import EXTENSIONS, ImageError, Pixels, decode_rgb, list_images, size_of


class DataError(UsageError):
    """Data that can't be trained on."""


class Sample(Protocol):
    """An image: an `ImageFile`, or a `ShardImage` of a data set. Its text is how messages call it."""

    @property
    def id(self) -> str:
        """That of its prompt: the two images of a pair share it."""

    @property
    def name(self) -> str:
        """Tells it from the others of its set, wherever the set lies."""

    @property
    def file(self) -> Path:
        """The file in which its bytes lie."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in px; no pixel is decoded."""

    def read(self) -> bytes:
        """The image as the bytes of a file.

        Raises:
            ImageError, ShardError: they can't be had; with the sample's text.
        """


Sides = tuple[Sequence[Sample], Sequence[Sample]]
"""Student and teacher."""
S = TypeVar("S", bound=Sample)


@dataclass(frozen=True)
class ImageFile:
    """An image file; its id is the file name without its ending."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.stem

    @property
    def name(self) -> str:
        return "/".join(self.path.parts[-2:])

    @property
    def file(self) -> Path:
        return self.path

    @property
    def size(self) -> tuple[int, int]:
        return size_of(self.path)

    def read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ImageError(f"{self.path} can't be read: {error.strerror}") from error

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class ShardImage:
    """An image of a data set: a row of a shard, and a column."""

    id: str
    size: tuple[int, int]
    column: str
    row: int
    """Its place in the shard."""
    shard: Shard

    @property
    def name(self) -> str:
        return f"{self.column}/{self.id}"

    @property
    def file(self) -> Path:
        return self.shard.path

    def read(self) -> bytes:
        return self.shard.image(self.row, self.column)

    def __str__(self) -> str:
        return f"{self.shard.path}: {self.column} {self.id}"


@dataclass(frozen=True)
class ImageFolders:
    """Student and teacher images in folders of their own."""

    student: Sequence[Path]
    teacher: Sequence[Path]


Source = ImageFolders | Pairs
"""Where the images of both sides come from."""


def open_source(data: Path | None, student: Sequence[Path] | None, teacher: Sequence[Path] | None) -> Source:
    """What a command is given: a pairs data set, or folders for both sides.

    Raises:
        UsageError: neither or both of them, or `data` is no finished pairs data set.
    """
    if data is not None and not student and not teacher:
        return Pairs(data)
    if data is None and student and teacher:
        return ImageFolders(student, teacher)
    raise UsageError("give either --data (a pairs data set), or --student and --teacher (folders of images)")


def list_sides(source: Source, split: tuple[float, float], fraction: float = 1.0, min_side: int = 0) -> Sides:
    """Student and teacher images whose ids lie in the split.

    Args:
        fraction: of the split, its first part.
        min_side: images whose shorter side is less are left out, px.

    Raises:
        DataError: a folder is missing or holds no image, or none is left.
        ShardError: a shard is broken.
    """
    chosen = split, fraction, min_side
    if isinstance(source, ImageFolders):
        return list_files(source.student, *chosen), list_files(source.teacher, *chosen)
    return list_shard_images(source, "student", *chosen), list_shard_images(source, "teacher", *chosen)


def list_files(
    folders: Sequence[Path], split: tuple[float, float], fraction: float = 1.0, min_side: int = 0
) -> list[ImageFile]:
    """Image files below the folders, ordered by folder and path; see `list_sides`."""
    files: list[ImageFile] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder of images")
        images = list_images(folder)
        if not images:
            raise DataError(f"{folder} holds no image ({', '.join(sorted(EXTENSIONS))})")
        files += map(ImageFile, images)
    return _chosen(files, ", ".join(map(str, folders)), split, fraction, min_side)


def list_shard_images(
    data: Pairs | Enhanced, column: str, split: tuple[float, float], fraction: float = 1.0, min_side: int = 0
) -> list[ShardImage]:
    """A column of a data set, in the order of its rows; see `list_sides`."""
    size = (data.description.size, data.description.size)
    cells = [
        ShardImage(id, size, column, row, shard) for shard in data.shards() for row, (id, *_) in enumerate(shard.texts)
    ]
    return _chosen(cells, str(data.folder), split, fraction, min_side)


def _chosen(samples: Sequence[S], where: str, split: tuple[float, float], fraction: float, min_side: int) -> list[S]:
    inside = [sample for sample in samples if within(sample.id, split)]
    first = [sample for sample in inside if within(sample.id, split, fraction)]
    chosen = [sample for sample in first if _is_large_enough(sample, min_side)]
    if not chosen:
        low, high = split
        left_out = (
            (len(samples) - len(inside), "outside the split"),
            (len(inside) - len(first), "outside the fraction of it"),
            (len(first), "smaller (min_side)"),
        )
        raise DataError(
            f"{where}: no image of {fraction:g} of the split {low:g}:{high:g}"
            + (f" with sides of at least {min_side} px" if min_side else "")
            + f": of {len(samples)}, "
            + ", ".join(f"{count} are {why}" for count, why in left_out if count)
        )
    return chosen


def _is_large_enough(sample: Sample, min_side: int) -> bool:
    try:
        return not min_side or min(sample.size) >= min_side
    except ImageError:
        return True  # whoever reads it will say what is wrong with it


def pixels_of(sample: Sample) -> Pixels:
    """(H, W, 3) uint8, sRGB, upright; transparency is dropped.

    Raises:
        ImageError, ShardError: with the sample's text.
    """
    data = sample.read()
    try:
        return decode_rgb(data)
    except ImageError as error:
        raise ImageError(f"{sample} {error}") from error


def match(student: Sequence[Sample], teacher: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """The samples that both sides have, by file name, in the same order.

    Raises:
        DataError: none or few are shared, or a name stands for several images of one side.
    """
    sides = []
    for samples in (student, teacher):
        by_id = {sample.id: sample for sample in samples}
        if len(by_id) < len(samples):
            twice = next(sample for sample in samples if by_id[sample.id] is not sample)
            raise DataError(f"{twice} and {by_id[twice.id]} have one name: which is the pair's?")
        sides.append(by_id)
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        raise DataError(
            "student and teacher folders share no file name, so they hold no pairs: "
            "name the two images of a pair alike, or train unpaired"
        )
    if len(shared) < min(map(len, sides)) / 2:
        raise DataError(
            f"only {len(shared)} file names are shared by {len(sides[0])} student and {len(sides[1])} teacher images; "
            "equal names must mean equal prompt and seed: are these pairs?"
        )
    return [sides[0][id] for id in shared], [sides[1][id] for id in shared]
