from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.enhance.test_faces import portrait
from undistill.enhance import change
from undistill.enhance.change import Change, changed
from undistill.enhance.faces import find_faces
from undistill.enhance.identity import embeddings, keep_identity
from undistill.images import ImageError, Pixels
from undistill.metrics.faces import load_faces

FACE = portrait(280)
WALL = np.full((60, 50, 3), 128, np.uint8)


class Stranger:
    """Stands for an Enhancer that makes someone else of everyone."""

    def __init__(self) -> None:
        self.calls: list[float] = []

    def __call__(self, pixels: Any, strength: float, mask: Any = 1.0) -> Any:
        self.calls.append(strength)
        other = portrait(280, "schnell-000098-nurse") if len(pixels) == 280 else 255 - pixels
        mask = np.asarray(mask)[..., None] if np.ndim(mask) else mask
        return np.rint(pixels + strength * mask * (other.astype(float) - pixels)).astype(np.uint8)


def run(pixels: Pixels, wanted: Change, **more: Any) -> tuple[change.Changed, Stranger]:
    stranger = Stranger()
    return changed(pixels, stranger, wanted, **more), stranger


def test_embeddings_are_those_that_are_measured_with() -> None:
    ours = embeddings(FACE, find_faces(FACE))
    theirs = load_faces()(FACE)
    assert float((ours @ theirs.T)[0, 0]) > 0.98  # the metric enlarges small pictures first


def test_strength_is_lowered_until_it_is_the_same_person() -> None:
    faces = find_faces(FACE)
    result, stranger = run(FACE, Change(keep_identity=0.97))
    (note,) = result.notes
    assert 0 < result.strength < 0.9
    assert note.startswith(f"strength {result.strength:g}, for an identity of 0.97")
    assert stranger.calls == [1.0, result.strength]  # the head runs once for all that are tried
    assert np.array_equal(result.pixels, Stranger()(FACE, result.strength))
    own = embeddings(FACE, faces)
    most = Stranger()(FACE, result.strength + 0.01)
    assert float((own * embeddings(result.pixels, faces)).sum()) >= 0.97 > float((own * embeddings(most, faces)).sum())


def test_what_keeps_it_anyway_is_left_as_it_is() -> None:
    result, stranger = run(FACE, Change(strength=0.05, keep_identity=0.8))
    assert (result.strength, list(result.notes), stranger.calls) == (0.05, [], [0.05])
    kept = keep_identity(FACE, portrait(280, "schnell-000098-nurse"), find_faces(FACE), 1.0, 1.0)
    assert kept.strength < 0.05  # no change but what rounding hides


def test_without_a_face_it_says_so() -> None:
    result, _ = run(WALL, Change(keep_identity=0.97))
    assert (result.strength, list(result.notes)) == (1.0, ["no face found: all of it enhanced"])
    alone = Change(where="face", no_face="keep")
    result, stranger = run(WALL, alone)
    assert (result.strength, list(result.notes), stranger.calls) == (0, ["no face found: kept as it is"], [])
    with pytest.raises(ImageError, match="no face"):
        run(WALL, replace(alone, no_face="fail"))


def test_a_mask_of_the_users_own_needs_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "find_faces", lambda pixels: pytest.fail("not asked for"))
    mask = np.zeros((60, 50), np.float32)
    assert run(WALL, Change(), mask=mask)[0].strength == 0
    mask[10] = 1
    result, _ = run(WALL, Change(), mask=mask)
    assert np.array_equal((result.pixels != WALL).any(-1), mask > 0)


def test_the_record_hears_of_what_counts_alone() -> None:
    assert Change(feather=0.5).told() == {"strength": 1.0}
    assert Change(where="face").told() == {"strength": 1.0, "where": "face", "feather": 0.2, "no_face": "whole"}
    assert Change(0.5, keep_identity=0.9).told() == {"strength": 0.5, "keep_identity": 0.9}


def test_with_a_mask_and_without_a_face_it_says_what_is_enhanced() -> None:
    mask = np.zeros(WALL.shape[:2], np.float32)
    mask[:9] = 1
    made = change.changed(WALL, Stranger(), Change(keep_identity=0.97), mask)
    assert list(made.notes) == ["no face found: enhanced within its mask"]
    assert np.array_equal(made.pixels[9:], WALL[9:])
