import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from undistill.base.errors import UsageError
from undistill.diversity.attributes import AGE, BELOW, ETHNICITY, GENDER, classes_of, load_attributes


@pytest.mark.parametrize(
    ("age", "group"),
    [(17, BELOW), (18, "18-30"), (30, "18-30"), (31, "31-50"), (50, "31-50"), (51, "51+"), (99, "51+")],
)
def test_age_groups(age: int, group: str) -> None:
    assert classes_of(np.array([[1, age, 2]], np.float32)) == {"gender": "male", "age": group, "ethnicity": "black"}


def test_what_is_not_known_is_in_no_class() -> None:
    assert classes_of(np.zeros((0, 3), np.float32)) == {}
    assert classes_of(np.array([[0, 40, np.nan]], np.float32)) == {"gender": "female", "age": "31-50"}


def test_dlib_sees_a_woman_and_no_ethnicity_and_finds_faces_of_64_px() -> None:
    extractor = load_attributes("dlib")
    portrait = Image.fromarray(astronaut()[:300, 80:380])  # type: ignore[no-untyped-call]
    (seen,) = extractor(np.asarray(portrait))
    assert seen[GENDER] == 0
    assert 20 < seen[AGE] < 60
    assert np.isnan(seen[ETHNICITY])
    small = extractor(np.asarray(portrait.resize((64, 64), Image.Resampling.LANCZOS)))
    assert small.shape == (1, 3)  # the gender may be another: docs/diversity.md
    assert extractor(np.zeros((80, 90, 3), np.uint8)).shape == (0, 3)


def test_an_unknown_backend() -> None:
    with pytest.raises(UsageError, match="take one of dlib, deepface"):
        load_attributes("me")
