from pathlib import Path

import numpy as np
import pytest
import torch
from research.tiny.faces import FACE_PX, Views, all_views, list_faces, view

from undistill.base.errors import UsageError


def test_lists_faces_of_a_split(portraits_like: Path) -> None:
    everyone = list_faces(portraits_like, (0, 1))
    assert len(everyone) == 39  # one row has no face
    assert everyone[2].tags == ("red eyes", "grim face")
    assert everyone[3].tags == ()
    some, others = list_faces(portraits_like, (0, 0.8)), list_faces(portraits_like, (0.8, 1))
    assert len(some) + len(others) == 39
    assert not {face.path for face in some} & {face.path for face in others}
    assert some[0].gender in {"male", "female"}


def test_wrong_folders_are_named(tmp_path: Path, portraits_like: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no portraits.csv"):
        list_faces(tmp_path, (0, 1))
    with pytest.raises(UsageError, match="no face in the split"):
        list_faces(portraits_like, (0.5, 0.5000001))


def test_views_differ_a_little_and_go_on_without_end(portraits_like: Path) -> None:
    faces = list_faces(portraits_like, (0, 1))[:6]
    views = Views(faces, seed=1)
    (first,) = views[0]
    assert first.shape == (3, FACE_PX, FACE_PX)
    assert float(first.abs().max()) <= 1
    assert torch.equal(first, views[0][0])
    assert not torch.equal(views[0][0], views[6][0])
    plain = Views(faces, None)
    assert len(plain) == 6
    shown = all_views(faces, 8, seed=0)
    assert shown.shape == (6, 8, 3, FACE_PX, FACE_PX)
    own = (plain[2][0] + 1) * 127.5
    distances = (shown.float() - own).abs().mean((2, 3, 4))
    mirrored = (shown.flip(-1).float() - own).abs().mean((2, 3, 4))
    nearest = torch.minimum(distances, mirrored)
    assert nearest[2].max() < nearest[[0, 1, 3, 4, 5]].min()


def test_a_view_is_made_of_the_face(portraits_like: Path) -> None:
    flat = np.full((160, 160, 3), 100, np.uint8)
    assert (view(flat, None) == 100).all()
    assert abs(view(flat, np.random.default_rng(0)).astype(int) - 100).max() <= 10
