import numpy as np
import pytest
from research.native import masks, table, turned, typology_angle


def test_hues_turn_the_short_way() -> None:
    red, blue = (np.array([50, 10, b], np.float32) for b in (1, -1))
    angle, distance = turned(red, blue)
    assert angle == pytest.approx(-2 * np.degrees(np.arctan(0.1)), abs=1e-4)
    assert distance == pytest.approx(-2, abs=1e-5)  # equal chroma: as far as they lie apart
    assert turned(*(np.array([50, -10, b], np.float32) for b in (1, -1)))[0] == pytest.approx(-angle, abs=1e-4)


def test_dark_skin_has_a_small_angle() -> None:
    angles = [typology_angle(np.array([lightness, 12, 15], np.float32)) for lightness in (70, 50, 35)]
    assert angles == pytest.approx([53.1, 0, -45], abs=0.1)


def test_a_face_and_what_is_far_from_it() -> None:
    face, far = masks((100, 100), (40, 40, 60, 60))
    assert face[50, 50]
    assert not face[41, 41]
    assert far[50, 29]
    assert not far[50, 31]
    assert not (face & far).any()


def test_skin_is_measured_by_thirds_of_its_tone() -> None:
    """Dark skin that stays, light skin that darkens by 3; identity of the same faces is 1."""
    faces = [np.r_[np.random.default_rng(k).normal(size=128), 30][None].astype(np.float32) for k in range(9)]
    skins = np.array([[angle, -3.0 * (angle > 10), 0.0, 0.0] for angle in range(-40, 50, 10)])
    rows = table([faces, faces], skins, np.ones((4, 3)))
    cells = {str(row[""]): row[" (2)"] for row in rows}
    assert cells["faces lost"] == [0, 9]
    dark, light = (next(cell for words, cell in cells.items() if words.startswith(word)) for word in ("dark", "light"))
    assert dark[0]["value"] == 0  # type: ignore[index]
    assert light[0]["value"] == -3  # type: ignore[index]
    assert cells["grey walls, a* (n = 4)"]["value"] == 1  # type: ignore[index, call-overload]
