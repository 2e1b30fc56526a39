"""The faces that `tiny` learns from: portraits drawn by FLUX and SDXL, with estimates of gender and age, and tags."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from research.tiny.recipe import FacesRecipe
from undistill.base.errors import UsageError
from undistill.dataset import within
from undistill.dataset.read import shuffled
from undistill.images import Pixels, read_rgb, to_tensor

TABLES = ("portraits.csv", "native.csv")
SMALL_FACE_PX = 160
"""Side of the smaller pictures of faces, column `face`, px."""


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


def list_faces(folders: Sequence[Path], split: tuple[float, float], side: int) -> list[TrainingFace]:
    """The faces of folders whose file names lie in the split (undistill.dataset), in the order of their tables.

    Args:
        folders: with a table, `portraits.csv` or `native.csv`.
        side: at which they are to be seen, px: of those with two pictures it says which.

    Raises:
        UsageError: a folder has no such table, or the table no face in the split.
    """
    return [face for folder in folders for face in _listed(folder, split, side)]


def _listed(folder: Path, split: tuple[float, float], side: int) -> list[TrainingFace]:
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is None:
        raise UsageError(f"{folder} holds no {' or '.join(TABLES)}: --data takes a folder like ../shared/portraits")
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = _pictures(table, reader.fieldnames or (), side)
        faces = [
            _face(row, folder / picture, f"{table}, line {reader.line_num}")
            for row in reader
            if (picture := next((row[name] for name in columns if row[name]), ""))
            and row["age"]
            and within(Path(picture).stem, split)
        ]
    if not faces:
        raise UsageError(f"{table} has no face in the split {split[0]:g}:{split[1]:g}")
    return faces


def _pictures(table: Path, columns: Sequence[str], side: int) -> list[str]:
    """The columns of a face's pictures, the better one first."""
    lacking = [name for name in ("gender", "age") if name not in columns]
    pictures = [name for name in ("face256", "face") if name in columns]
    if lacking or not pictures:
        raise UsageError(f"{table} has no column {(lacking or ['face'])[0]}")
    # The small one does while half of it has the pixels that are asked for: a view may take as little.
    return pictures if side > SMALL_FACE_PX // 2 else pictures[-1:]


def _face(row: dict[str, str], path: Path, where: str) -> TrainingFace:
    if row["gender"] not in ("male", "female"):
        raise UsageError(f"{where}: gender is {row['gender']!r}, not male or female")
    try:
        age = float(row["age"])
    except ValueError as error:
        raise UsageError(f"{where}: age is {row['age']!r}, not a number of years") from error
    tags = tuple(tag for tag in (text.strip() for text in row.get("tags", "").split(";")) if tag)
    return TrainingFace(path, row["gender"], age, tags)


def read_face(face: TrainingFace) -> Pixels:
    """Raises:
    UsageError: it isn't square.
    """
    pixels = read_rgb(face.path)
    if pixels.shape[0] != pixels.shape[1]:
        raise UsageError(f"{face.path} is {pixels.shape[1]} x {pixels.shape[0]} px: faces are square")
    return pixels


def view(pixels: Pixels, shown: FacesRecipe, random: Generator | None) -> Pixels:
    """(side, side, 3) uint8 of a square face: as it is, or nearer, turned, mirrored and lit at random.

    What is turned is cut from the inside: no view shows a corner that the picture doesn't have.
    """
    image, size = Image.fromarray(pixels), (shown.side, shown.side)
    if random is None:
        return np.array(image.resize(size, Image.Resampling.LANCZOS))
    taken = image.width * random.uniform(shown.nearest, 1.0)
    left, top = random.uniform(0, image.width - taken, 2)
    cut = taken
    if shown.turn:
        turn = random.uniform(-shown.turn, shown.turn)
        cut = taken / (math.cos(math.radians(turn)) + abs(math.sin(math.radians(turn))))
        middle = (left + taken / 2, top + taken / 2)
        image = image.rotate(turn, Image.Resampling.BICUBIC, center=middle)
        left, top = (centre - cut / 2 for centre in middle)
    box = (left, top, left + cut, top + cut)
    small = np.asarray(image.resize(size, Image.Resampling.LANCZOS, box)) / 255.0
    if random.random() < 0.5:
        small = small[:, ::-1]
    lit = small ** ((1 + shown.light) ** random.uniform(-1, 1))
    if shown.colour:
        lit = (lit * random.uniform(1 - shown.colour, 1 + shown.colour, 3)).clip(0, 1)
    pictured: Pixels = (255 * lit).round().astype(np.uint8)
    return pictured


def face_pixels(faces: Sequence[TrainingFace], side: int) -> Pixels:
    """(faces, side, side, 3) uint8, as they are."""
    return np.stack([view(read_face(face), FacesRecipe(side=side), None) for face in faces])


class Views(Dataset[tuple[Tensor, ...]]):
    """The k-th face of a run, (3, side, side) in [-1, 1], k = 0, 1, 2, ... without end, in a new order each time.

    With seed None: every face once, as it is.
    """

    def __init__(self, faces: Sequence[TrainingFace], shown: FacesRecipe, seed: int | None) -> None:
        self.pixels = [read_face(face) for face in faces]
        self.shown = shown
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, k: int) -> tuple[Tensor, ...]:
        epoch, place = divmod(k, len(self.pixels))
        if self.seed is None:
            return (to_tensor(view(self.pixels[place], self.shown, None)),)
        face = shuffled(len(self.pixels), self.seed, epoch)[place]
        random = np.random.default_rng([self.seed, k, 1])
        return (to_tensor(view(self.pixels[face], self.shown, random)),)


def all_views(faces: Sequence[TrainingFace], shown: FacesRecipe, count: int, seed: int) -> Tensor:
    """(faces, count, 3, side, side) uint8: `count` views of each face; views of one face differ."""
    some = []
    for number, face in enumerate(faces):
        pixels = read_face(face)
        random = np.random.default_rng([seed, number])
        some.append(np.stack([view(pixels, shown, random) for _ in range(count)]))
    return torch.from_numpy(np.stack(some)).permute(0, 1, 4, 2, 3)
