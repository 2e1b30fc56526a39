import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from research.tiny.faces import Views, all_views, face_pixels, list_faces, view
from research.tiny.recipe import FacesRecipe

from tests.research.tiny.conftest import write_face, write_native
from undistill.base.errors import UsageError

SLIGHT = FacesRecipe()
STRONG = FacesRecipe(side=128, nearest=0.7, turn=15, light=0.3, colour=0.1)


def test_lists_faces_of_a_split(portraits_like: Path) -> None:
    everyone = list_faces([portraits_like], (0, 1), 64)
    assert len(everyone) == 39  # one row has no face
    assert everyone[2].tags == ("red eyes", "grim face")
    assert everyone[3].tags == ()
    some, others = (list_faces([portraits_like], split, 64) for split in ((0, 0.8), (0.8, 1)))
    assert len(some) + len(others) == 39
    assert not {face.path for face in some} & {face.path for face in others}
    assert some[0].gender in {"male", "female"}


def test_wrong_folders_are_named(tmp_path: Path, portraits_like: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no portraits.csv or native.csv"):
        list_faces([portraits_like, tmp_path], (0, 1), 64)
    with pytest.raises(UsageError, match="no face in the split"):
        list_faces([portraits_like], (0.5, 0.5000001), 64)
    (tmp_path / "native.csv").write_text("gender,face256\n")
    with pytest.raises(UsageError, match="has no column age"):
        list_faces([tmp_path], (0, 1), 64)


def test_the_larger_picture_is_taken_where_its_pixels_are_wanted(portraits_like: Path, tmp_path: Path) -> None:
    native = write_native(tmp_path / "native")
    table = portraits_like / "portraits.csv"
    rows = list(csv.DictReader(table.open()))
    (portraits_like / "faces256").mkdir()
    for number, row in enumerate(rows):
        row["face256"] = f"faces256/{Path(row['face']).name}" if number < 3 else ""
        if number < 3:
            write_face(portraits_like / row["face256"], 256, number)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    small, large = (list_faces([portraits_like, native], (0, 1), side) for side in (64, 128))
    assert [face.path.stem for face in small] == [face.path.stem for face in large]
    assert [Image.open(face.path).width for face in small] == [160] * 39 + [256] * 20
    assert [Image.open(face.path).width for face in large] == [256] * 3 + [160] * 36 + [256] * 20
    assert face_pixels(large[:2], 128).shape == (2, 128, 128, 3)


@pytest.mark.parametrize("shown", [SLIGHT, STRONG])
def test_views_differ_a_little_and_go_on_without_end(portraits_like: Path, shown: FacesRecipe) -> None:
    faces = list_faces([portraits_like], (0, 1), 64)[:6]
    views = Views(faces, shown, seed=1)
    (first,) = views[0]
    assert first.shape == (3, shown.side, shown.side)
    assert float(first.abs().max()) <= 1
    assert torch.equal(first, views[0][0])
    assert not torch.equal(views[0][0], views[6][0])
    plain = Views(faces, shown, None)
    assert len(plain) == 6
    some = all_views(faces, shown, 8, seed=0)
    assert some.shape == (6, 8, 3, shown.side, shown.side)
    own = (plain[2][0] + 1) * 127.5
    distances = (some.float() - own).abs().mean((2, 3, 4))
    mirrored = (some.flip(-1).float() - own).abs().mean((2, 3, 4))
    nearest = torch.minimum(distances, mirrored)
    assert nearest[2].median() < nearest[[0, 1, 3, 4, 5]].min()
    if shown == SLIGHT:
        assert nearest[2].max() < nearest[[0, 1, 3, 4, 5]].min()


def test_the_views_of_the_shipped_pair_stay_what_they_were() -> None:
    """Mirrored, nearer by up to 8%, gamma of 10%: as research.tiny.faces had it until 2026-11-26, number by number."""
    pixels = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    for seed in range(4):
        random = np.random.default_rng(seed)
        cut = 160 * random.uniform(0.92, 1.0)
        left, top = random.uniform(0, 160 - cut, 2)
        box = (left, top, left + cut, top + cut)
        small = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.LANCZOS, box))
        small = small[:, ::-1] if random.random() < 0.5 else small
        then = (255 * (small / 255.0) ** (1.1 ** random.uniform(-1, 1))).round().astype(np.uint8)
        assert (view(pixels, SLIGHT, np.random.default_rng(seed)) == then).all()


def test_a_view_is_made_of_the_face() -> None:
    flat = np.full((160, 160, 3), 100, np.uint8)
    assert (view(flat, SLIGHT, None) == 100).all()
    assert abs(view(flat, SLIGHT, np.random.default_rng(0)).astype(int) - 100).max() <= 10


def test_a_turned_view_shows_no_corner_that_the_picture_lacks() -> None:
    """What is beyond the border would come black."""
    white = np.full((256, 256, 3), 255, np.uint8)
    turned = FacesRecipe(side=64, nearest=0.95, turn=20, light=0)
    for seed in range(20):
        assert view(white, turned, np.random.default_rng(seed)).min() >= 230


def test_turns_go_both_ways_and_by_no_more_than_was_asked() -> None:
    """A white line through the middle, whose ends tell the angle."""
    lines = np.zeros((256, 256, 3), np.uint8)
    lines[126:130] = 255
    shown = FacesRecipe(side=128, nearest=1.0, turn=8)
    angles = []
    for seed in range(12):
        seen = view(lines, shown, np.random.default_rng(seed))[..., 0].astype(float)
        ends = seen[:, :8], seen[:, -8:]
        left, right = ((end * np.arange(128)[:, None]).sum() / end.sum() for end in ends)
        angles.append(np.degrees(np.arctan2(right - left, 120)))
    assert -8.1 < min(angles) < -1
    assert 1 < max(angles) < 8.1
