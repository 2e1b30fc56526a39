import numpy as np
import pytest

from undistill.diversity.shares import (
    count_by_id,
    difference_test,
    entropy,
    entropy_difference,
    entropy_value,
    shares,
)

CLASSES = ("a", "b", "c")


def one_each(counts: list[int]) -> np.ndarray:
    """(n, K): images of different ids."""
    return np.repeat(np.eye(len(counts)), counts, axis=0)


def test_entropy_by_hand() -> None:
    assert entropy(np.array([[5.0, 5.0], [7.0, 0.0], [3.0, 1.0]])) == pytest.approx([1, 0, 0.811278], abs=1e-6)
    assert entropy(np.array([2.0, 1.0, 1.0])) == pytest.approx(1.5 * np.log(2) / np.log(3))
    assert np.isnan(entropy(np.zeros(3)))


def test_counts_by_id_leave_out_what_is_no_class() -> None:
    images = [("x", "a"), ("x", "c"), ("y", None), ("z", "c"), ("z", "other")]
    counts = count_by_id(images, {"x": 0, "y": 1, "z": 2, "elsewhere": 3}, CLASSES)
    assert counts.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_shares() -> None:
    found = shares(one_each([3, 1, 0]), CLASSES, "why")
    assert [(value.value, value.n) for value in found.values()] == [(0.75, 4), (0.25, 4), (0.0, 4)]
    assert shares(np.zeros((4, 3)), CLASSES, "nobody")["a"].why == "nobody"


@pytest.mark.parametrize("p", [(0.5, 0.5), (0.9, 0.1), (1 / 3, 1 / 3, 1 / 3), (0.7, 0.1, 0.1, 0.05, 0.05)])
def test_intervals_of_the_entropy_cover_it(p: tuple[float, ...]) -> None:
    random = np.random.default_rng(1)
    true = float(entropy(np.array(p)))
    found = [entropy_value(one_each(random.multinomial(150, p).tolist()), 0, "") for _ in range(100)]
    ends = [(value.low, value.high) for value in found if value.low is not None and value.high is not None]
    assert len(ends) == len(found)
    assert np.mean([low - 1e-9 <= true <= high + 1e-9 for low, high in ends]) > 0.88


def test_an_entropy_without_an_interval() -> None:
    only = entropy_value(one_each([0, 9, 0]), 0, "")
    assert (only.value, only.low, only.n) == (0.0, None, 9)
    assert entropy_value(np.zeros((9, 3)), 0, "nobody").why == "nobody"


def test_what_two_sets_share_by_id_cancels_in_the_difference() -> None:
    random = np.random.default_rng(2)
    first = one_each([60, 30, 10])
    same = entropy_difference(first, first, 0, "")
    apart = entropy_difference(first, first[random.permutation(100)], 0, "")
    assert (same.value, same.low) == (0.0, None)  # they can't differ, however the ids are drawn
    assert apart.low is not None
    assert apart.high is not None
    assert apart.low < 0 < apart.high
    clear = entropy_difference(first, one_each([100, 0, 0]), 0, "")
    assert clear.high is not None
    assert clear.high < 0
    assert entropy_difference(first, np.zeros((100, 3)), 0, "nobody").why == "nobody"


def test_the_test_holds_its_level_and_sees_a_difference() -> None:
    random = np.random.default_rng(3)
    p = [0.5, 0.4, 0.1, 0.0]
    drawn = [[random.multinomial(n, p).astype(float) for n in (60, 90)] for _ in range(100)]
    found = [difference_test(first, other, 0) for first, other in drawn]
    for name in ("p_shares", "p_entropy"):
        assert 0 < np.mean([test[name] < 0.1 for test in found if test]) < 0.2
    seen = difference_test(np.array([50, 50]), np.array([80, 20]), 0)
    assert seen is not None
    assert seen["chi2"] == pytest.approx(19.78, abs=0.01)  # without Yates's correction
    assert seen["dof"] == 1
    assert seen["p_shares"] < 0.001
    assert seen["p_entropy"] < 0.001
    mirrored = difference_test(np.array([80, 20]), np.array([20, 80]), 0)
    assert mirrored is not None
    assert mirrored["p_shares"] < 0.001  # other shares
    assert mirrored["p_entropy"] == 1  # as evenly spread
    assert difference_test(np.array([3, 4]), np.array([0, 0]), 0) is None
