import numpy as np

from undistill.metrics.whitening import Moments, Whitening


def test_rows_become_uncorrelated_with_variance_one() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(4000, 6)) @ random.normal(size=(6, 6)) + 3
    whitened = Whitening(Moments.of(rows), 4)(rows)
    assert whitened.shape == (4000, 4)
    np.testing.assert_allclose(whitened.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(4), atol=5e-3)


def test_moments_of_parts_are_those_of_the_whole() -> None:
    rows = np.random.default_rng(1).normal(size=(30, 5)).astype(np.float32)
    whole = Moments.of(rows)
    parts = Moments.union([Moments.of(rows[:7]), Moments.of(rows[7:])])
    assert parts.count == whole.count
    np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-6)


def test_directions_without_variance_are_left_out() -> None:
    rows = np.zeros((10, 3))
    rows[:, 0] = np.arange(10)
    assert Whitening(Moments.of(rows)).directions.shape == (3, 1)
