import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage.data import astronaut

from tests.cli.conftest import Run

Folders = Callable[..., Path]


def test_measures_real_faces_by_dlib(undistill: Run, tmp_path: Path) -> None:
    portrait = Image.fromarray(np.asarray(astronaut()[:300, 80:380])).resize((64, 64))  # type: ignore[no-untyped-call]
    for name, image in (("one", portrait), ("other", ImageOps.mirror(portrait))):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "0.png")
        ImageOps.autocontrast(image, 5).save(tmp_path / name / "1.png")
    groups = [f"{name}={tmp_path / name}" for name in ("one", "other")]
    out = tmp_path / "out"
    code, said, _ = undistill("diversity", *groups, "-o", out)
    assert not code
    assert "Perceived attributes" in said
    assert "does not estimate it" in said
    assert "no map of the faces: 4 are too few" in said
    rows = json.loads((out / "diversity.json").read_text())["rows"]
    assert rows["one"]["gender_female"]["value"] == 1
    assert 0 < rows["other"]["distance"]["value"] < 0.1
    assert json.loads(undistill("diversity", *groups, "-o", out, "--format", "json")[1])["rows"] == rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a=gone"], "gone is not a folder of images"),
        (["a=in", "a=in"], "a is given twice"),
        (["in"], "write NAME=DIR"),
        ([], "nothing to measure"),
        (["a=in", "--attributes", "me"], "take one of dlib, deepface"),
        (["a=in", "--embedding", "me"], "take one of dlib, arcface"),
        (["a=in"], "no face was found in any of the 2 images"),
        (["--data", "in"], "is no pairs data set"),
        (["a=in", "--split", "half"], "LO:HI"),
    ],
)
def test_refuses_in_one_line(
    undistill: Run, image_folder: Folders, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    folder = image_folder("in", 2)
    monkeypatch.chdir(folder.parent)
    code, _, said = undistill("diversity", *arguments, "-o", "out")
    assert code == 2
    assert message in said.strip().splitlines()[-1]
    assert "Traceback" not in said
    assert not Path("out").exists()
    code, _, said = undistill("diversity", "a=in", "-o", folder / "000.png")
    assert (code, "is a file; -o takes a folder" in said) == (2, True)
