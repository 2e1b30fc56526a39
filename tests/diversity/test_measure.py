import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.base.test_table import WIDTHS, check_figures, shown
from undistill.base.errors import UsageError
from undistill.diversity import measure as module
from undistill.diversity.measure import measure_diversity
from undistill.images import Pixels
from undistill.metrics.extraction import Extractor, Features, one_by_one

Folders = Callable[..., Path]


def attributes(pixels: Pixels) -> Features:
    """What the first pixel says; none where it is black."""
    red, green, _ = map(int, pixels[0, 0])
    return np.array([[red % 2, green, np.nan]], np.float32)[: int(red > 0)]


def embedding(pixels: Pixels) -> Features:
    face = pixels[0, 0].astype(np.float32) + 1
    return np.asarray(face / np.linalg.norm(face))[None][: int(pixels[0, 0, 0] > 0)]


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of pictures of (gender, age), seen by the two functions above."""
    monkeypatch.setattr(module, "load_attributes", lambda name: Extractor(f"made-up-{name}", one_by_one(attributes)))
    monkeypatch.setattr(
        module, "load_embedding", lambda name: Extractor(f"made-up-faces-{name}", one_by_one(embedding))
    )

    def make(name: str, *seen: tuple[int, int]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for number, (gender, age) in enumerate(seen):
            picture = np.full((8, 9, 3), (100 + gender, age, 3 * number), np.uint8)
            Image.fromarray(picture).save(folder / f"{number:02d}.png")
        return folder

    return make


NOBODY = (-100, 0)


def test_groups_side_by_side(people: Callable[..., Path], tmp_path: Path) -> None:
    old = people("old", *[(0, 60)] * 6, *[(1, 61)] * 6, NOBODY)
    young = people("young", *[(0, 20)] * 9, *[(0, 40)] * 2, (1, 12))
    out = tmp_path / "out"
    results = measure_diversity({"old": old, "young": young}, out, seed=3)
    found = json.loads((out / "diversity.json").read_text())
    assert found == json.loads(json.dumps(results.to_json()))

    assert found["rows"]["old"]["faces_missing"] == {"value": 1, "low": None, "high": None, "n": 13}
    assert found["rows"]["old"]["gender_entropy"]["value"] == 1
    assert found["rows"]["young"]["gender_female"]["value"] == pytest.approx(11 / 12)
    assert found["counts"]["young"]["age"] == {"18-30": 9, "31-50": 2, "51+": 0, "below 18": 1}
    assert found["rows"]["young"]["age_18-30"]["n"] == 11
    assert found["rows"]["old"]["age_51+"]["value"] == 1
    assert found["rows"]["old"]["ethnicity_entropy"]["why"] == "made-up-dlib does not estimate it"

    assert set(found["differences"]) == set(found["tests"]) == {"young"}
    assert found["tests"]["young"]["age"]["p_shares"] < 0.001
    assert found["tests"]["young"]["ethnicity"] is None
    assert found["differences"]["young"]["gender_entropy"]["value"] < 0
    assert found["differences"]["young"]["distance"]["low"] is not None

    near = found["nearest"]["old"]
    assert len(near) == 8
    assert [pair["distance"] for pair in near] == sorted(pair["distance"] for pair in near)
    assert all(image.startswith("old/") for pair in near for image in pair["images"])
    for name in found["figures"].values():
        assert Image.open(out / name).size[0] > 300
    assert set(found["figures"]) == {"map", "nearest"}
    assert "perceived" in found["warning"].lower()

    for width in WIDTHS:
        for table in results.tables():
            check_figures(table, width)
        said = shown(results.show, width)
        assert said.startswith("Perceived attributes: what a classifier")
        assert "made-up-dlib does not estimate it" in " ".join(said.split())
    assert "| gender: female | 0.500 [" in results.to_markdown()

    again = tmp_path / "again"
    measure_diversity({"old": old, "young": young}, again, seed=3)
    for name in ("diversity.json", "map.png", "nearest.png"):
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_few_faces_have_no_map_and_one_has_no_distance(people: Callable[..., Path], tmp_path: Path) -> None:
    results = measure_diversity(
        {"few": people("few", (0, 30), (1, 40)), "one": people("one", (0, 15), NOBODY)}, tmp_path / "out"
    )
    assert set(results.figures) == {"nearest"}
    assert results.notes == ["no map of the faces: 3 are too few, it takes 10"]
    assert results.rows["one"]["distance"].why == "fewer than two faces"
    assert results.rows["one"]["age_entropy"].why == "no face in these classes"
    assert results.nearest["one"] == []


def test_sides_of_a_pairs_data_set(people: Callable[..., Path], pairs_folder: Folders, tmp_path: Path) -> None:
    pairs = pairs_folder("pairs", 6)
    folder = people("mine", (0, 30))
    results = measure_diversity({"mine": folder}, tmp_path / "out", pairs)
    assert list(results.rows) == ["student", "teacher", "mine"]
    assert results.rows["teacher"]["faces_missing"].n == 6
    with pytest.raises(UsageError, match="teacher is a side of --data"):
        measure_diversity({"teacher": folder}, tmp_path / "out", pairs)


def test_no_face_at_all_or_no_group(people: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no face was found in any of the 2 images"):
        measure_diversity({"empty": people("empty", NOBODY, NOBODY)}, tmp_path / "out")
    with pytest.raises(UsageError, match="nothing to measure: give NAME=DIR"):
        measure_diversity({}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
