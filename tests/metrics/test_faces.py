import importlib.util

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from undistill.base.errors import Failure
from undistill.images import Pixels
from undistill.metrics.extraction import EvalImage, Features
from undistill.metrics.faces import face_workers, identity, load_faces


def face(*values: float) -> Features:
    vector = np.array([values], np.float32)
    return vector / np.linalg.norm(vector)


NO_FACE = np.zeros((0, 2), np.float32)


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


def test_workers_see_the_same_faces_in_the_order_asked() -> None:
    images = [small(300), np.zeros((80, 90, 3), np.uint8), small(64)]
    alone = load_faces()
    with face_workers() as together:
        assert together.name == alone.name  # they share what is kept
        seen = together.look([EvalImage(pixels) for pixels in images])
    for features, pixels in zip(seen, images, strict=True):
        assert np.array_equal(features, alone(pixels))


def test_identity_by_hand() -> None:
    student = [face(1, 0), face(0, 1), NO_FACE, face(1, 1)]
    images = [face(1, 0.1), face(1, 0.2), face(1, 0), NO_FACE]
    found = identity(student, images)
    assert found["identity"].value == pytest.approx((1 / np.hypot(1, 0.1) + 0.2 / np.hypot(1, 0.2)) / 2)
    assert found["identity_rank1"].value == 0.5  # the second is nearest to the first student
    assert (found["faces_missing"].value, found["faces_missing"].n) == (1, 3)


def test_no_face_at_all() -> None:
    assert identity([NO_FACE], [NO_FACE])["identity"].why == "no face found"


def test_without_dlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Failure, match=r"undistill\[faces\]"):
        load_faces()
