"""The faces that `tiny` learns from: real FLUX and SDXL portraits with estimates of gender and age, and tags."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from undistill.base.errors import UsageError
from undistill.dataset import within
from undistill.dataset.read import shuffled
from undistill.images import Pixels, read_rgb, to_tensor

FACE_PX = 64
"""Side of all images of `tiny`, px."""


@dataclass(frozen=True)
class TrainingFace:
    """An aligned face.

    Args:
        path: of the image.
        gender: "male" or "female", as estimated.
        age: in years, as estimated.
        tags: what the image was found by, e.g. "man with full beard".
    """

    path: Path
    gender: str
    age: float
    tags: tuple[str, ...]


def list_faces(folder: Path, split: tuple[float, float]) -> list[TrainingFace]:
    """The faces of `folder/portraits.csv` whose file names lie in the split (undistill.dataset), in its order.

    Raises:
        UsageError: the folder is not one of portraits, or none is in the split.
    """
    table = folder / "portraits.csv"
    if not table.is_file():
        raise UsageError(f"{folder} holds no portraits.csv: --data takes a folder like ../shared/portraits")
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        lacking = [name for name in ("face", "gender", "age", "tags") if name not in (reader.fieldnames or ())]
        if lacking:
            raise UsageError(f"{table} has no column {lacking[0]}")
        faces = [
            _face(row, folder, f"{table}, line {reader.line_num}")
            for row in reader
            if row["face"] and row["age"] and within(Path(row["face"]).stem, split)
        ]
    if not faces:
        raise UsageError(f"{table} has no face in the split {split[0]:g}:{split[1]:g}")
    return faces


def _face(row: dict[str, str], folder: Path, where: str) -> TrainingFace:
    if row["gender"] not in ("male", "female"):
        raise UsageError(f"{where}: gender is {row['gender']!r}, not male or female")
    try:
        age = float(row["age"])
    except ValueError as error:
        raise UsageError(f"{where}: age is {row['age']!r}, not a number of years") from error
    tags = tuple(tag for tag in (text.strip() for text in row["tags"].split(";")) if tag)
    return TrainingFace(folder / row["face"], row["gender"], age, tags)


def read_face(face: TrainingFace) -> Pixels:
    """Raises:
    UsageError: it isn't square.
    """
    pixels = read_rgb(face.path)
    if pixels.shape[0] != pixels.shape[1]:
        raise UsageError(f"{face.path} is {pixels.shape[1]} x {pixels.shape[0]} px: faces are square")
    return pixels


def view(pixels: Pixels, random: Generator | None) -> Pixels:
    """(FACE_PX, FACE_PX, 3) uint8 of a square face: as it is, or mirrored, nearer, lighter or darker at random."""
    image = Image.fromarray(pixels)
    side = image.width
    if random is None:
        return np.array(image.resize((FACE_PX, FACE_PX), Image.Resampling.LANCZOS))
    cut = side * random.uniform(0.92, 1.0)
    left, top = random.uniform(0, side - cut, 2)
    small = np.asarray(image.resize((FACE_PX, FACE_PX), Image.Resampling.LANCZOS, (left, top, left + cut, top + cut)))
    if random.random() < 0.5:
        small = small[:, ::-1]
    lit: Pixels = (255 * (small / 255.0) ** (1.1 ** random.uniform(-1, 1))).round().astype(np.uint8)
    return lit


def face_pixels(faces: Sequence[TrainingFace]) -> Pixels:
    """(faces, FACE_PX, FACE_PX, 3) uint8, as they are."""
    return np.stack([view(read_face(face), None) for face in faces])


class Views(Dataset[tuple[Tensor, ...]]):
    """The k-th face of a run, (3, FACE_PX, FACE_PX) in [-1, 1], k = 0, 1, 2, ... without end, in a new order each time.

    With seed None: every face once, as it is.
    """

    def __init__(self, faces: Sequence[TrainingFace], seed: int | None) -> None:
        self.pixels = [read_face(face) for face in faces]
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, k: int) -> tuple[Tensor, ...]:
        epoch, place = divmod(k, len(self.pixels))
        if self.seed is None:
            return (to_tensor(view(self.pixels[place], None)),)
        face = shuffled(len(self.pixels), self.seed, epoch)[place]
        random = np.random.default_rng([self.seed, k, 1])
        return (to_tensor(view(self.pixels[face], random)),)


def all_views(faces: Sequence[TrainingFace], count: int, seed: int) -> Tensor:
    """(faces, count, 3, FACE_PX, FACE_PX) uint8: `count` views of each face; views of one face differ."""
    some = []
    for number, face in enumerate(faces):
        pixels = read_face(face)
        random = np.random.default_rng([seed, number])
        some.append(np.stack([view(pixels, random) for _ in range(count)]))
    return torch.from_numpy(np.stack(some)).permute(0, 1, 4, 2, 3)
