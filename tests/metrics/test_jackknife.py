import numpy as np
import pytest

from undistill.metrics.jackknife import MOST_GROUPS, groups_of, interval, mean_value, proportion


def test_the_jackknife_of_a_mean_is_its_t_interval() -> None:
    x = np.random.default_rng(0).normal(3, 2, 40)
    left_out = [np.delete(x, i).mean() for i in range(40)]
    by_jackknife = interval(np.array([x.mean(), *left_out]), n=40)
    by_formula = mean_value(x.tolist())
    assert by_jackknife.low == pytest.approx(by_formula.low)
    assert by_jackknife.high == pytest.approx(by_formula.high)


def test_the_correction_takes_away_the_bias_of_a_variance() -> None:
    x = np.random.default_rng(1).normal(size=25)
    theta = np.array([x.var(), *(np.delete(x, i).var() for i in range(25))])  # divides by n: biased
    assert interval(theta, n=25, corrected=True).value == pytest.approx(x.var(ddof=1))


def test_mean_value_covers_the_mean() -> None:
    random = np.random.default_rng(2)
    values = [mean_value(random.normal(1, 1, 8).tolist()) for _ in range(400)]
    hits = sum(value.low is not None and value.high is not None and value.low <= 1 <= value.high for value in values)
    assert 0.92 <= hits / 400 <= 0.98


def test_a_share_of_all_has_a_lower_end_below_one() -> None:
    value = proportion(50, 50)
    assert value.value == 1
    assert value.low == pytest.approx(0.9287, abs=1e-4)  # Wilson's, by hand
    assert value.high == pytest.approx(1)


def test_groups_depend_on_the_ids_alone_and_stay_few() -> None:
    ids = [f"id{i}" for i in range(1000)]
    assert groups_of(ids) == groups_of([*reversed(ids), *ids])
    assert len(set(groups_of(ids).values())) == MOST_GROUPS
    assert len(set(groups_of(ids[:30]).values())) == 30
