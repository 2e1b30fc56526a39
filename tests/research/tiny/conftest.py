"""A folder of portraits, as ../shared/portraits is one, with pictures of our own."""

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
            random = np.random.default_rng(number)
            coarse = random.integers(0, 255, (5, 5, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((160, 160), Image.Resampling.BICUBIC).save(folder / face)
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
