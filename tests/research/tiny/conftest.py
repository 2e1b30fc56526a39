"""Folders of portraits, as ../shared/portraits and ../shared/native are, with pictures of our own."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TAGS = ("typical adult asian", "man with full beard", "red eyes; grim face", "")


@pytest.fixture
def portraits_like(tmp_path: Path) -> Path:
    return write_portraits(tmp_path / "portraits")


def write_portraits(folder: Path) -> Path:
    (folder / "faces" / "dev").mkdir(parents=True)
    with (folder / "portraits.csv").open("w", newline="") as file:
        writer = csv.DictWriter(
            file, ["id", "model", "gender", "gender_confidence", "age", "tile", "face", "face_side", "tags"]
        )
        writer.writeheader()
        for number in range(40):
            face = f"faces/dev/{number:07d}.jpg"
            write_face(folder / face, 160, number)
            writer.writerow(
                {
                    "id": f"dev-{number:07d}",
                    "model": "dev",
                    "gender": "male" if number % 2 else "female",
                    "age": str(20 + number),
                    "face": "" if number == 39 else face,
                    "tags": TAGS[number % len(TAGS)],
                }
            )
    return folder


def write_native(folder: Path) -> Path:
    """Faces of 256 px alone, without tags."""
    (folder / "faces256").mkdir(parents=True)
    with (folder / "native.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "face256", "gender", "age"])
        writer.writeheader()
        for number in range(20):
            face = f"faces256/schnell-{number:06d}-ceo.jpg"
            write_face(folder / face, 256, 100 + number)
            writer.writerow({"id": number, "face256": face, "gender": "female", "age": "41"})
    return folder


def write_face(path: Path, side: int, number: int) -> None:
    coarse = np.random.default_rng(number).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path)
