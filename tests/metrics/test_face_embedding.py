from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from undistill.base.errors import Failure
from undistill.faces import models
from undistill.metrics.face_embedding import SIDE, load_face_embedding

dlib = pytest.importorskip("dlib")
FILE = models() / "dlib_face_recognition_resnet_model_v1.dat"


def test_dlib_sees_the_same() -> None:
    portrait = Image.fromarray(astronaut()[30:230, 120:320])  # type: ignore[no-untyped-call]
    turned = [portrait, portrait.rotate(12), portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    chips = np.stack([np.asarray(image.resize((SIDE, SIDE))) for image in turned])
    theirs = dlib.face_recognition_model_v1(str(FILE))
    with torch.inference_mode():
        ours = load_face_embedding(FILE)(torch.from_numpy(chips).movedim(-1, 1).float())
    assert ours.shape == (3, 128)
    assert ours.numpy() == pytest.approx(np.array([theirs.compute_face_descriptor(chip) for chip in chips]), abs=1e-5)


@pytest.mark.parametrize("change", ["nothing", "cut off", "a layer less", "another size"])
def test_another_file_is_refused(change: str, tmp_path: Path) -> None:
    data = FILE.read_bytes()
    changed = {
        "nothing": b"",
        "cut off": data[:-5000],
        "a layer less": data.replace(b"\x05con_4\x01\x02", b"\x05con_5\x01\x02", 1),
        "another size": data.replace(b"\x02\x80\x12", b"\x02\x80\x11", 1),
    }
    file = tmp_path / "model.dat"
    file.write_bytes(changed[change])
    with pytest.raises(Failure, match=r"model\.dat is not dlib's model of faces"):
        load_face_embedding(file)


def test_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"none\.dat can't be read"):
        load_face_embedding(tmp_path / "none.dat")
