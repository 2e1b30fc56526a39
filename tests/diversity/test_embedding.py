from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undistill.base.errors import UsageError
from undistill.diversity import embedding
from undistill.diversity.embedding import load_embedding, map_faces, mean_distance, nearest_pairs
from undistill.metrics.extraction import Features


def faces(count: int, seed: int = 0) -> Features:
    vectors = np.random.default_rng(seed).standard_normal((count, 5)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def by_hand(vectors: Features) -> float:
    return float(np.mean([1 - one @ other for one, other in combinations(vectors, 2)]))


def test_mean_distance_is_that_of_all_pairs_with_and_without_each_group() -> None:
    vectors, groups = faces(7), [0, 1, 2, 0, 1, 2, 2]
    theta = mean_distance(vectors, groups, 4)
    left_out = [by_hand(vectors[np.array(groups) != group]) for group in range(4)]
    assert theta == pytest.approx([by_hand(vectors), *left_out], abs=1e-6)
    assert np.isnan(mean_distance(vectors[:1], [0], 1)).all()


@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 12), wanted=st.integers(1, 9), block=st.integers(1, 5))
def test_nearest_pairs_are_those_of_all_pairs(count: int, wanted: int, block: int) -> None:
    vectors = faces(count, seed=count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "_BLOCK", block)
        found = nearest_pairs(vectors, wanted)
    pairs = combinations(range(count), 2)
    expected = sorted((float(1 - vectors[one] @ vectors[other]), one, other) for one, other in pairs)[:wanted]
    assert [(near.one, near.other) for near in found] == [(one, other) for _, one, other in expected]
    assert [near.distance for near in found] == pytest.approx([distance for distance, *_ in expected], abs=1e-6)


def test_the_map_keeps_two_crowds_apart_and_is_the_same_for_the_same_seed() -> None:
    crowds = np.concatenate([faces(12) * 0.1 + centre for centre in np.eye(5, dtype=np.float32)[:2]])
    crowds /= np.linalg.norm(crowds, axis=1, keepdims=True)
    places = map_faces(crowds, 1)
    assert np.array_equal(places, map_faces(crowds, 1))
    one, other = places[:12], places[12:]
    apart = np.linalg.norm(one.mean(0) - other.mean(0))
    assert apart > 2 * max(np.linalg.norm(crowd - crowd.mean(0), axis=1).mean() for crowd in (one, other))


def test_an_unknown_embedding() -> None:
    with pytest.raises(UsageError, match="take one of dlib, arcface"):
        load_embedding("facenet")
