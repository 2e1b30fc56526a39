import pytest

from tests.training.test_run import recipe
from undistill.training.schedule import StepPlan, linear_decay, warmup


def test_decays_linearly_from_a_point_to_the_end() -> None:
    assert [linear_decay(progress) for progress in (0.0, 0.5, 0.75, 0.99)] == pytest.approx([1, 1, 0.5, 0.02])
    assert [linear_decay(progress, 0.6, 0.03) for progress in (0.5, 0.8, 1.0)] == pytest.approx([1, 0.515, 0.03])


def test_warms_up_to_the_whole_rate() -> None:
    assert [warmup(progress, 0.5) for progress in (0.0, 0.25, 0.9)] == pytest.approx([0, 0.5, 1], abs=3e-3)
    assert warmup(0.0, 0.0) == 1.0


def test_a_plan_stops_at_max_steps_and_validates_at_the_recipes_end_alone() -> None:
    made = recipe("paired", steps=None, epochs=3, validate_every=None, log_every=4, save_every=100, sample_every=100)
    whole, part = StepPlan.of(made, 11, None), StepPlan.of(made, 11, 8)
    assert (whole.per_epoch, whole.total, whole.last) == (6, 18, 18)
    assert (part.total, part.last) == (18, 8)
    assert [step for step in range(1, 19) if whole.validates(step)] == [6, 12, 18]
    assert [step for step in range(1, 9) if part.saves(step)] == [8]
    assert [step for step in range(1, 9) if part.looks(step)] == [4, 6, 8]
