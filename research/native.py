"""What a head does to native portraits of FLUX.1-schnell: to people, to skin of each tone, to grey walls.

    python -m research.native ../shared/native/schnell ENHANCED -o native.json

ENHANCED holds the enhanced portraits by the same names (`undistill enhance`). Writes a table (docs/heads.md). Faces are
looked for at 512 px; skin is what lies in the middle of a face's box, its tone the individual typology angle (Chardon
et al. 1991) of its median colour; a grey wall is what lies outside of the box, at least half its width away, with a
chroma under 6.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image

from research.figures import Row, write_rows
from undistill.base.errors import UsageError
from undistill.base.progress import progressed
from undistill.dataset.samples import ImageFile, list_files, pixels_of
from undistill.faces import load_finder
from undistill.images import Pixels, to_tensor
from undistill.losses import lab
from undistill.metrics.faces import identity, load_aged_faces
from undistill.metrics.jackknife import Value, mean_value

SIDE = 512
"""Faces are looked for at this shorter side, px."""
GREY = 6
"""What has less chroma is grey."""


def enhanced_of(sample: ImageFile, folder: Path) -> ImageFile:
    """The enhanced portrait of the same name."""
    path = folder / sample.path.name
    if not path.exists():
        raise UsageError(f"{path} is missing: undistill enhance {sample.path.parent} -o {folder}")
    return ImageFile(path)


def lab_of(pixels: Pixels) -> NDArray[np.float32]:
    """(H, W, 3) sRGB to L*, a*, b*."""
    return np.asarray(lab(to_tensor(pixels)[None])[0].permute(1, 2, 0).numpy())


def masks(shape: tuple[int, int], box: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The middle of a face, and what is far from it: left, top, right, bottom of its box."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    rows, columns = np.indices(shape)
    face = (abs(rows - (top + bottom) / 2) < 0.25 * height) & (abs(columns - (left + right) / 2) < 0.3 * width)
    near = (abs(rows - (top + bottom) / 2) < height) & (abs(columns - (left + right) / 2) < width)
    return face, ~near


def typology_angle(colour: NDArray[np.float32]) -> float:
    """Individual typology angle in degrees, of L*, a*, b*: about 55 and more is very light skin, below -30 dark."""
    return float(np.degrees(np.arctan2(colour[0] - 50, colour[2])))


def turned(before: NDArray[np.float32], after: NDArray[np.float32]) -> tuple[float, float]:
    """From one L*, a*, b* to another: hue in degrees, and the same in units of L*, CIE's Delta H*."""
    hues = [np.arctan2(colour[2], colour[1]) for colour in (before, after)]
    angle = float((hues[1] - hues[0] + np.pi) % (2 * np.pi) - np.pi)
    chroma = [np.hypot(colour[1], colour[2]) for colour in (before, after)]
    return np.degrees(angle), float(2 * np.sqrt(chroma[0] * chroma[1]) * np.sin(angle / 2))


def main(
    student: Path, enhanced: Path, out: Annotated[Path, typer.Option("-o", "--out")] = Path("native.json")
) -> None:
    """Write what becomes of people, skin and walls."""
    find, faces = load_finder(), load_aged_faces()
    sides: list[list[NDArray[np.float32]]] = [[], []]
    skins, walls = [], []
    samples = list_files([student], (0, 1))
    for sample in progressed("portraits", samples):
        whole = (Image.fromarray(pixels_of(each)) for each in (sample, enhanced_of(sample, enhanced)))
        x, z = (np.asarray(each.resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for each in whole)
        for side, pixels in zip(sides, (x, z), strict=True):
            side.append(faces(pixels))
        face = find(x)
        if face is None:
            continue
        box = (face.box.left(), face.box.top(), face.box.right(), face.box.bottom())
        skin, far = masks(x.shape[:2], box)
        before, after = lab_of(x), lab_of(z)
        colours = [np.median(each[skin], axis=0) for each in (before, after)]
        if np.hypot(*colours[0][1:]) >= GREY:  # else it is no skin, but a mask
            skins.append((typology_angle(colours[0]), colours[1][0] - colours[0][0], *turned(*colours)))
        grey = far & (np.hypot(before[..., 1], before[..., 2]) < GREY)
        if grey.mean() > 0.05:
            walls.append((after - before)[grey].mean(0))
    rows = table(sides, np.array(skins), np.array(walls))
    write_rows(rows, out, f"{len(samples)} native portraits")


def table(
    sides: list[list[NDArray[np.float32]]],
    skins: NDArray[np.float64],
    walls: NDArray[np.float64],
) -> list[Row]:
    """What is found, a row each.

    Args:
        sides: of student and enhanced portraits what `load_aged_faces` gives.
        skins: (n, 4): the typology angle, and the shifts of L*, of hue and of Delta H*.
        walls: (m, 3): the shifts of L*, a* and b*.
    """
    same = identity(*sides)
    unseen, near, lost = len(sides[0]) - len(skins), same["identity_rank1"], same["faces_missing"]
    rows: list[tuple[str, Any]] = [
        ("no skin measured: grey, under a mask, or no face", [unseen, len(sides[0])]),
        ("identity to the student", same["identity"].to_json()),
        ("own student the nearest", near.to_json()),
        ("faces lost", [lost.value, lost.n]),
        ("age drift, years", same["age_drift"].to_json()),
    ]
    order = np.argsort(skins[:, 0])
    for words, part in zip(("dark", "middle", "light"), np.array_split(order, 3), strict=True):
        shifts = [mean_value(skins[part, column].tolist()) for column in (1, 2, 3)]
        angles = f"{skins[part, 0].min():.0f} to {skins[part, 0].max():.0f} degrees"
        rows.append(
            (
                f"{words} skin ({angles}, n = {len(part)}): L*; hue in degrees; the same as dH*",
                list(map(interval_of, shifts)),
            )
        )
    for column, name in enumerate(("L*", "a*", "b*")):
        rows.append((f"grey walls, {name} (n = {len(walls)})", mean_value(walls[:, column].tolist()).to_json()))
    return [{"": words, " (2)": cell} for words, cell in rows]


def interval_of(value: Value) -> dict[str, float | None]:
    """A figure without the number of images, which stands before it."""
    return {"value": value.value, "low": value.low, "high": value.high}


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
