"""Images for training: which ones, in which order, cut and varied how.

Everything random is a function of the seed, the sample's id and its place in the run. So a resumed run sees what an
uninterrupted one sees, with any number of loader processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from undistill.dataset.split import position, within
from undistill.errors import UsageError
from undistill.images import EXTENSIONS, list_images, read_rgb, size_of


class DataError(UsageError):
    """Folders that can't be trained on."""


@dataclass(frozen=True)
class Sample:
    """An image file and its id: the file name without its ending."""

    id: str
    path: Path


@dataclass(frozen=True)
class Cut:
    """What is taken from an image.

    Args:
        crop: side of the square that is cut out, px.
        size: the shorter side is resized to this first, px; None: native scale.
        flip: mirror every other one.
        gamma: raise to a power between 1 / (1 + gamma) and 1 + gamma.
        colour: multiply each channel by 1 - colour to 1 + colour.
    """

    crop: int
    size: int | None = None
    flip: bool = False
    gamma: float = 0.0
    colour: float = 0.0


def list_samples(
    folders: Sequence[Path], split: tuple[float, float], fraction: float = 1.0, min_side: int = 0
) -> list[Sample]:
    """Image files below the folders whose ids lie in the split, ordered by folder and path.

    Args:
        min_side: images whose shorter side is less are left out, px.

    Raises:
        DataError: a folder is missing or holds no image, or none is left.
    """
    samples: list[Sample] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder of images")
        files = list_images(folder)
        if not files:
            raise DataError(f"{folder} holds no image ({', '.join(sorted(EXTENSIONS))})")
        samples += [Sample(path.stem, path) for path in files if within(path.stem, split, fraction)]
    kept = [sample for sample in samples if not min_side or min(size_of(sample.path)) >= min_side]
    if not kept:
        low, high = split
        raise DataError(
            f"{', '.join(map(str, folders))}: no image of {fraction:g} of the split {low:g}:{high:g}"
            + (f" with sides of at least {min_side} px" if min_side else "")
        )
    return kept


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
            raise DataError(f"{twice.path} and {by_id[twice.id].path} have one name: which is the pair's?")
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


def cut_out(pixels: np.ndarray, cut: Cut, random: Generator | None) -> Tensor:
    """(3, crop, crop) in [-1, 1] from (H, W, 3) uint8: anywhere and varied, or from the middle if random is None."""
    height, width = pixels.shape[:2]
    if cut.size and min(height, width) != cut.size:
        scale = cut.size / min(height, width)
        width, height = max(cut.size, round(width * scale)), max(cut.size, round(height * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    if min(height, width) < cut.crop:
        raise DataError(f"an image of {width} x {height} px is smaller than the crop of {cut.crop} px")
    high, wide = height - cut.crop, width - cut.crop
    top, left = (high // 2, wide // 2) if random is None else (random.integers(high + 1), random.integers(wide + 1))
    x = pixels[top : top + cut.crop, left : left + cut.crop].astype(np.float32) / 255
    if random is not None:
        if cut.flip and random.random() < 0.5:
            x = x[:, ::-1]
        if cut.gamma:
            x = x ** np.float32((1 + cut.gamma) ** random.uniform(-1, 1))
        if cut.colour:
            x = (x * random.uniform(1 - cut.colour, 1 + cut.colour, 3).astype(np.float32)).clip(0, 1)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))) * 2 - 1


@lru_cache(maxsize=8)
def shuffled(count: int, *seed: int) -> NDArray[np.int64]:
    """0, 1, ... count - 1 in an order that the numbers of `seed` fix."""
    return np.random.default_rng(seed).permutation(count)


class Training(Dataset[tuple[Tensor, ...]]):
    """The k-th student and teacher crop of a run, k = 0, 1, 2, ... without end.

    Each side runs through its images in a new order every epoch. Paired, both sides have one order and one cut.
    """

    def __init__(self, student: Sequence[Sample], teacher: Sequence[Sample], cut: Cut, seed: int, paired: bool) -> None:
        self.sides = (student, teacher)
        self.cut = cut
        self.seed = seed
        self.paired = paired

    def __len__(self) -> int:
        return max(map(len, self.sides))

    def __getitem__(self, k: int) -> tuple[Tensor, ...]:
        x, y = (self._crop(samples, 0 if self.paired else side, k) for side, samples in enumerate(self.sides))
        return x, y

    def _crop(self, samples: Sequence[Sample], stream: int, k: int) -> Tensor:
        epoch, place = divmod(k, len(samples))
        sample = samples[int(shuffled(len(samples), self.seed, stream, epoch)[place])]
        key = int(position(sample.id) * 2**53)
        random = np.random.default_rng([self.seed, stream, key, k])
        return cut_out(read_rgb(sample.path), self.cut, random)


class Validation(Dataset[tuple[Tensor, ...]]):
    """Every student image once, cut from the middle, each with a teacher image (its own if paired)."""

    def __init__(self, student: Sequence[Sample], teacher: Sequence[Sample], cut: Cut) -> None:
        self.student = student
        self.teacher = teacher
        self.cut = cut

    def __len__(self) -> int:
        return len(self.student)

    def __getitem__(self, k: int) -> tuple[Tensor, ...]:
        pair = self.student[k], self.teacher[k % len(self.teacher)]
        x, y = (cut_out(read_rgb(sample.path), self.cut, None) for sample in pair)
        return x, y


class Consecutive(Sampler[int]):
    """first, first + 1, ... last - 1: the run's order is in `Training`, so a loader just counts."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last))

    def __len__(self) -> int:
        return self.last - self.first
