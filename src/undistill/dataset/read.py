"""Images for training: in which order, cut and varied how.

Everything random is a function of the seed, the sample's id and its place in the run. So a resumed run sees what an
uninterrupted one sees, with any number of loader processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from undistill.dataset import position
from undistill.dataset.samples import DataError, Sample, pixels_of


@dataclass(frozen=True)
class Cropping:
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


def cropped(pixels: np.ndarray, cut: Cropping, random: Generator | None) -> Tensor:
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


class TrainingCrops(Dataset[tuple[Tensor, ...]]):
    """The k-th student and teacher crop of a run, k = 0, 1, 2, ... without end.

    Each side runs through its images in a new order every epoch. Paired, both sides have one order and one cut.
    """

    def __init__(
        self, student: Sequence[Sample], teacher: Sequence[Sample], cut: Cropping, seed: int, paired: bool
    ) -> None:
        self.sides = (student, teacher)
        self.cut = cut
        self.seed = seed
        self.paired = paired

    @property
    def counts(self) -> tuple[int, int]:
        """How many images each side has."""
        student, teacher = self.sides
        return len(student), len(teacher)

    def __len__(self) -> int:
        return max(self.counts)

    def __getitem__(self, k: int) -> tuple[Tensor, ...]:
        x, y = (self._crop(samples, 0 if self.paired else side, k) for side, samples in enumerate(self.sides))
        return x, y

    def _crop(self, samples: Sequence[Sample], stream: int, k: int) -> Tensor:
        epoch, place = divmod(k, len(samples))
        sample = samples[int(shuffled(len(samples), self.seed, stream, epoch)[place])]
        key = int(position(sample.id) * 2**53)
        random = np.random.default_rng([self.seed, stream, key, k])
        return cropped(pixels_of(sample), self.cut, random)


class ValidationCrops(Dataset[tuple[Tensor, ...]]):
    """Every student image once, cut from the middle, each with a teacher image (its own if paired)."""

    def __init__(self, student: Sequence[Sample], teacher: Sequence[Sample], cut: Cropping) -> None:
        self.student = student
        self.teacher = teacher
        self.cut = cut

    def __len__(self) -> int:
        return len(self.student)

    def __getitem__(self, k: int) -> tuple[Tensor, ...]:
        pair = self.student[k], self.teacher[k % len(self.teacher)]
        x, y = (cropped(pixels_of(sample), self.cut, None) for sample in pair)
        return x, y


class Consecutive(Sampler[int]):
    """first, first + 1, ... last - 1: the run's order is in `TrainingCrops`, so a loader just counts.

    Of several ranks, each takes one batch in turn: step by step they see what one process with a batch of
    `ranks * batch` sees, no item twice and none left out.
    """

    def __init__(self, first: int, last: int, batch: int = 1, rank: int = 0, ranks: int = 1) -> None:
        self.starts = range(first + rank * batch, last, ranks * batch)  # no list: a run may be long
        self.last = last
        self.batch = batch

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(range(start, min(start + self.batch, self.last)) for start in self.starts)

    def __len__(self) -> int:
        return sum(min(self.batch, self.last - start) for start in self.starts[-1:]) + self.batch * len(
            self.starts[:-1]
        )
