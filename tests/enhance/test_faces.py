from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import strong
from undistill.base.files import SAMPLES
from undistill.enhance import Enhancer, faces
from undistill.enhance.faces import find_faces, mask_of
from undistill.heads import ResnetGenerator
from undistill.images import ImageError, Pixels

# As `find_faces` would give it: eyes 40 px apart.
PLACED = np.array([(72, 90), (88, 90), (128, 90), (112, 90), (100, 122)], float)


def portrait(side: int = 320, name: str = "schnell-000123-ceo") -> Pixels:
    image = Image.open(SAMPLES / f"{name}.webp").convert("RGB")
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


@pytest.fixture(scope="module")
def run() -> Enhancer:
    return Enhancer(strong(ResnetGenerator(8, 1, norm="pixel")), "cpu")


def test_outside_of_the_mask_every_pixel_stays(run: Enhancer) -> None:
    image = portrait()
    (face,) = find_faces(image)
    outside = mask_of(image, [face]) == 0
    result = run(image, where="face")
    assert np.array_equal(result[outside], image[outside])
    (left, top), (right, bottom) = face.min(0).astype(int), face.max(0).astype(int)
    assert (result != image)[top:bottom, left:right].any(-1).mean() > 0.9
    # The whole mask lies around the face, and ends within the picture's wall.
    assert 0.05 < (~outside).mean() < 0.35
    tensor = torch.from_numpy(image.copy()).movedim(-1, 0)
    for given in (tensor.double() / 255, tensor.float() / 255):
        part = run(given, where="face")
        assert torch.equal(part[:, outside], given[:, outside])
        assert not torch.equal(part, given)
    whole = np.asarray(run(Image.fromarray(image), where="face"))
    assert np.array_equal(whole, result)


def test_the_mask_is_the_same_at_any_size() -> None:
    small, large = (mask_of(image, find_faces(image)) for image in (portrait(400), portrait(1000)))
    scaled = np.asarray(Image.fromarray(large).resize((400, 400), Image.Resampling.BOX))
    assert np.abs(small - scaled).mean() < 0.02


def test_several_faces_and_turned_ones(run: Enhancer) -> None:
    turned = np.asarray(Image.fromarray(portrait(name="schnell-000098-nurse")).rotate(12, fillcolor=(200, 200, 200)))
    pair = np.concatenate([portrait(), turned], axis=1)
    found = find_faces(pair)
    assert len(found) == 2
    mask = mask_of(pair, found)
    for face in found:
        x, y = face.mean(0).astype(int)
        assert mask[y, x] == 1
    batch = np.stack([portrait(), turned])
    results = run(batch, where="face")
    assert np.array_equal(results[1], run(turned, where="face"))


def test_it_ends_where_the_image_has_an_edge() -> None:
    y, x = np.mgrid[:240, :200]
    head = np.hypot((x - 100) / 55, (y - 100) / 75) < 1
    wall = np.full((240, 200, 3), 200, np.uint8)
    seen = mask_of(np.where(head[..., None], np.uint8(90), wall), [PLACED], 0.2)
    beside = (y > 60) & (y < 150) & (np.abs(x - 100) > 62)
    assert seen[beside].max() < 0.05  # no halo
    assert seen[head & (y < 150)].mean() > 0.97
    # On a wall without an edge it falls evenly.
    even = mask_of(wall, [PLACED], 0.2)
    line = even[90, 100:]
    assert (np.diff(line) <= 1e-6).all()
    assert np.abs(np.diff(line)).max() < 0.12
    assert ((line > 0.05) & (line < 0.95)).sum() > 15


def test_feather_is_in_parts_of_the_face() -> None:
    wall = np.full((320, 300, 3), 200, np.uint8)
    areas = [float((mask_of(wall, [PLACED], feather) > 0).mean()) for feather in (0, 0.1, 0.3)]
    assert areas[0] < areas[1] < areas[2]
    hard = mask_of(wall, [PLACED], 0)
    assert ((hard > 0) & (hard < 1)).mean() < 0.03


def test_a_face_at_the_border_or_beyond_it_is_no_fault() -> None:
    image = portrait()[:60, :90]
    for shift in (-100, -60, 0, 40, 400):
        mask = mask_of(image, [PLACED + shift])
        assert mask.shape == (60, 90)
        assert mask.min() >= 0
        assert mask.max() <= 1
    assert not mask_of(image, [np.zeros((5, 2))]).any()


def test_an_image_without_a_face(run: Enhancer) -> None:
    wall = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    assert np.array_equal(run(wall, where="face"), run(wall))
    assert np.array_equal(run(wall, where="face", no_face="keep"), wall)
    with pytest.raises(ImageError, match="shows no face"):
        run(wall, where="face", no_face="fail")


@pytest.mark.parametrize(
    "mask",
    [
        np.eye(40, 52, dtype=bool),
        np.eye(40, 52, dtype=np.uint8) * 255,
        torch.eye(40, 52),
        np.eye(40, 52)[::-1, ::-1][::-1, ::-1],
    ],
)
def test_a_mask_of_ones_own(run: Enhancer, mask: "np.ndarray[Any, Any] | Tensor") -> None:
    image = portrait(64)[:40, :52]
    result, whole = run(image, mask=mask), run(image)
    inside = np.eye(40, 52, dtype=bool)
    assert np.array_equal(result[inside], whole[inside])
    assert np.array_equal(result[~inside], image[~inside])


def test_half_a_mask_is_half_the_change(run: Enhancer) -> None:
    image = portrait(64)
    half = run(image, mask=np.full((64, 64), 0.5)).astype(int)
    assert np.abs(half - (image.astype(int) + run(image)) / 2).max() <= 0.5
    # A mask for each of a batch.
    batch = np.stack([image, image])
    masks = np.stack([np.ones((64, 64)), np.zeros((64, 64))])
    assert np.array_equal(run(batch, mask=masks), np.stack([run(image), image]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"where": "eyes"}, "take one of all, face"),
        ({"no_face": "cry"}, "take one of whole, keep, fail"),
        ({"feather": 1.5}, "feather"),
        ({"mask": np.zeros((3, 3))}, r"take \(64, 64\)"),
        ({"mask": np.full((64, 64), 2.0)}, "from 0 to 1"),
        ({"mask": np.full((64, 64), np.nan)}, "from 0 to 1"),
        ({"mask": np.zeros((64, 64), int)}, "int64"),
        ({"mask": np.zeros((64, 64)), "where": "face"}, "either"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Enhancer, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run(portrait(64), **wrong)


def test_floats_are_looked_at_before_faces_are(run: Enhancer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "find_faces", lambda pixels: pytest.fail("too early"))
    with pytest.raises(ValueError, match="NaN"):
        run(np.full((8, 8, 3), np.nan), where="face")
