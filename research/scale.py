"""What running a head at the scale that it was trained at does to sharpness.

    python -m research.scale ../shared/native/schnell --head flux1-lite [--count 12]

Prints, for the portraits as they are, enhanced with `scale="trained"` and with `scale="native"`: the standard deviation
of three octaves of light (of 1 to 2 px, 2 to 4 and 4 to 8; levels of 255), the effect of blur, and the mean change.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from undistill.enhance import Enhancer
from undistill.images import Pixels, list_images, read_rgb
from undistill.metrics.no_reference import load_blur_effect

OCTAVES = 3


def octaves(pixels: Pixels) -> list[float]:
    """Standard deviation of what each halving of the size takes away from the luminance, from the finest on."""
    light: Tensor = torch.from_numpy(pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[
        None, None
    ]
    found = []
    for _ in range(OCTAVES):
        small = F.avg_pool2d(light, 2)
        found.append(float((light - F.interpolate(small, size=light.shape[-2:], mode="bilinear")).std()))
        light = small
    return found


def main(
    portraits: Path,
    head: Annotated[str, typer.Option()] = "flux1-lite",
    count: Annotated[int, typer.Option(help="So many, the first by name.")] = 12,
) -> None:
    """Print how a head's change spreads over octaves, by the size of the image."""
    images = [read_rgb(path) for path in list_images(portraits)[:count]]
    blur = load_blur_effect(torch.device("cpu"))
    print("| | 1-2 px | 2-4 px | 4-8 px | blur effect | mean change, levels of 255 |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = {"student": images}
    rows |= {f"scale {way}": [Enhancer(head, scale=way)(image) for image in images] for way in ("trained", "native")}
    for name, row in rows.items():
        figures = [*np.mean([octaves(image) for image in row], 0), np.mean([blur(image)[0, 0] for image in row])]
        changes = [np.abs(a.astype(int) - b).mean() for a, b in zip(row, images, strict=True)]
        cells = [f"{figure:.3f}" for figure in figures] + [f"{np.mean(changes):.2f}" if name != "student" else ""]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
