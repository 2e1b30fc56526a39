"""The questions: pairs of pictures in random order, each with random sides."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from undistill.base.errors import UsageError
from undistill.dataset.samples import Sample, list_files, match, pixels_of

QUESTION = "Which looks more like a photograph?"
SCREEN_SIDES = ("left", "right")


@dataclass(frozen=True)
class Question:
    """A pair as it is shown.

    Args:
        pair: the file name without its ending.
        left, right: the pictures.
        left_name: of the left one's folder.
    """

    pair: str
    left: Sample
    right: Sample
    left_name: str

    def picture(self, side: str) -> bytes:
        """A PNG of the pixels alone: what else a file holds could give away where it comes from.

        Raises:
            ImageError: the file can't be read.
        """
        buffer = BytesIO()
        Image.fromarray(pixels_of(self.left if side == "left" else self.right)).save(buffer, "PNG")
        return buffer.getvalue()


@dataclass(frozen=True)
class Study:
    """Two folders against each other.

    Args:
        names: of the folders; wins are the first's.
        id: SHA-256 of names, seed, and all pictures that are asked about.
        alone: pictures without a partner, by folder.
    """

    names: tuple[str, str]
    seed: int
    id: str
    questions: list[Question]
    alone: dict[str, int]

    @property
    def header(self) -> dict[str, Any]:
        """What the first line of a file of answers says."""
        return {"study": self.id, "names": list(self.names), "seed": self.seed, "pairs": len(self.questions)}


def make_study(folders: Mapping[str, Path], seed: int = 0, limit: int | None = None) -> Study:
    """Files of one name, endings apart, are a pair. Each folder is left in half of the questions.

    Args:
        folders: two, by name.
        seed: fixes order and sides.
        limit: ask about so many pairs, drawn at random.

    Raises:
        UsageError: the folders hold no pairs.
        ImageError: a file can't be read.
    """
    (one, first), (other, second) = folders.items()
    files = [list_files([folder], (0.0, 1.0)) for folder in (first, second)]
    shared = {file.id for file in files[0]} & {file.id for file in files[1]}
    if not shared:
        raise UsageError(f"{first} and {second} share no file name, so they hold no pairs: name two pictures alike")
    ours, theirs = match(*([file for file in side if file.id in shared] for side in files))
    random = Random(seed)
    pairs = random.sample(list(zip(ours, theirs, strict=True)), len(ours))[:limit]
    swapped = random.sample([place % 2 == 0 for place in range(len(pairs))], len(pairs))
    questions = [
        Question(mine.id, their, mine, other) if swap else Question(mine.id, mine, their, one)
        for (mine, their), swap in zip(pairs, swapped, strict=True)
    ]
    id = sha256(f"{one}\n{other}\n{seed}\n".encode())
    for mine, their in pairs:
        for sample in (mine, their):
            id.update(f"{sample.id}\n".encode() + sha256(sample.read()).digest())
    spare = {name: len(side) - len(shared) for name, side in zip(folders, files, strict=True)}
    return Study((one, other), seed, id.hexdigest(), questions, {name: n for name, n in spare.items() if n})
