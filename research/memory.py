"""Does the memory of `undistill enhance` stay flat over many images of mixed sizes?

    python -m research.memory [--images 10000] [--head NAME]

Enhances a folder of so many PNGs, 500 pictures of as many sizes from 64 to 512 px, each several times, and prints the
most that the process held in each tenth of its time, MiB.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from research.load import watched
from undistill.base.command import run
from undistill.base.files import SAMPLES

PICTURES = 500
SIDES = (64, 512)


def write_pictures(folder: Path, images: int) -> None:
    """So many files, by the sizes of `PICTURES` crops of the samples."""
    random = np.random.default_rng(0)
    samples = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.webp"))]
    for number in range(images):
        if number < PICTURES:
            width, height = (int(side) for side in random.integers(SIDES[0], SIDES[1] + 1, size=2))
            samples[number % len(samples)].resize((width, height)).save(folder / f"{number:06d}.png", compress_level=1)
        else:
            os.link(folder / f"{number % PICTURES:06d}.png", folder / f"{number:06d}.png")


def main(
    images: Annotated[int, typer.Option(min=20)] = 10_000,
    head: Annotated[str, typer.Option()] = "flux1",
) -> None:
    """Enhance them, and watch."""
    with TemporaryDirectory() as place:
        folder = Path(place, "in")
        folder.mkdir()
        write_pictures(folder, images)
        command = [sys.executable, "-m", "undistill", "enhance", folder, "-o", Path(place, "out"), "--head", head]
        with (
            subprocess.Popen([*map(str, command), "--backend", "torch"], stdout=subprocess.DEVNULL) as process,
            watched(process.pid) as held,
        ):
            process.wait()
        if process.returncode:
            raise SystemExit(process.returncode)
    print(f"| {images:,} images: tenth of the time | MiB at most |\n| --- | --- |")
    for tenth in range(10):
        part = held[len(held) * tenth // 10 : len(held) * (tenth + 1) // 10]
        print(f"| {tenth + 1} | {max(part):.0f} |")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
