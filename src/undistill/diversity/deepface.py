"""deepface (Serengil), with which the paper estimates attributes; and its ArcFace (Deng et al. 2019). Extra `deepface`.

The faces are found by dlib, as for everything else, so that all figures rest on the same faces. deepface gets them
upright and cut out.
"""

import importlib.util
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from undistill.base.errors import Failure, first_line
from undistill.faces import load_finder
from undistill.images import Pixels
from undistill.metrics.extraction import Extractor, Features, one_by_one

ETHNICITIES = ("asian", "indian", "black", "white", "middle eastern", "latino hispanic")
"""As deepface calls them."""

FACE_SIDE, FACE_PADDING = 224, 0.25
"""Of the face that deepface is given: side in px, and what lies around the face, a part of its size."""


def load_deepface() -> Extractor:
    """An extractor as `undistill.diversity.attributes.load_attributes` describes it.

    Raises:
        Failure: deepface is not installed, or its weights can't be had.
    """
    deepface = _import("facial_attribute", ("Gender", "Age", "Race"))

    def attributes(face: Pixels) -> Features:
        (seen,) = deepface.analyze(face, actions=("gender", "age", "race"), detector_backend="skip", silent=True)
        male, ethnicity = seen["dominant_gender"] == "Man", ETHNICITIES.index(seen["dominant_race"])
        return np.array([[male, seen["age"], ethnicity]], np.float32)

    return _extractor("attributes", 3, attributes)


def load_arcface() -> Extractor:
    """An extractor of the 512-d ArcFace embedding of an image's largest face, length 1: (1, 512), or (0, 512) without.

    Raises:
        Failure: deepface is not installed, or its weights can't be had.
    """
    deepface = _import("facial_recognition", ("ArcFace",))

    def embed(face: Pixels) -> Features:
        (seen,) = deepface.represent(face, model_name="ArcFace", detector_backend="skip", l2_normalize=True)
        return np.array([seen["embedding"]], np.float32)

    return _extractor("arcface", 512, embed)


def _extractor(what: str, size: int, look_at: Callable[[Pixels], Features]) -> Extractor:
    find = load_finder()
    import dlib

    def look(pixels: Pixels) -> Features:
        face = find(pixels)
        if face is None:
            return np.zeros((0, size), np.float32)
        chip = dlib.get_face_chip(face.pixels, face.landmarks, size=FACE_SIDE, padding=FACE_PADDING)
        return look_at(np.ascontiguousarray(chip[..., ::-1]))  # deepface takes BGR

    return Extractor(f"deepface-{version('deepface')}-{what}", one_by_one(look))


def _import(task: str, models: tuple[str, ...]) -> Any:
    if importlib.util.find_spec("deepface") is None:
        raise Failure("this needs deepface: pip install 'undistill[deepface]'")
    # Else it takes TensorFlow or torch where they are installed, and weights of its own for each.
    os.environ.setdefault("DEEPFACE_BACKEND_ENGINE", "onnx")
    os.environ.setdefault("DEEPFACE_LOG_LEVEL", "40")  # it prints on standard output
    try:
        from deepface import DeepFace

        for model in models:  # now, rather than in several threads at once
            DeepFace.build_model(model, task)
    except (ValueError, OSError) as error:
        raise Failure(f"deepface can't run: {first_line(error)}") from error
    return DeepFace
