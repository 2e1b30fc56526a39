import time
from collections.abc import Callable

import pytest

from undistill.base.errors import Failure
from undistill.bench.timing import ENOUGH, cost, measure_steps, median, warm_up


def test_steps_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[tuple[str, int]] = []
    seconds = measure_steps({name: lambda turn, name=name: calls.append((name, turn)) for name in "ab"}, 2)  # type: ignore[misc]
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    slow = measure_steps({"nap": lambda turn: time.sleep(0.5 if turn == 0 else 0.01)}, 3)["nap"]
    assert 0.01 <= max(slow) < 0.4


def test_slow_rounds_end_with_the_budget_but_not_before_there_are_enough() -> None:
    def taken(nap: float, budget: float) -> int:
        return len(measure_steps({"nap": lambda turn: time.sleep(nap)}, 40, budget)["nap"])

    assert taken(0.0, 60) == 40
    assert taken(0.004, 0.02) == ENOUGH  # over it after five, but with six there is an interval
    assert taken(0.05, 0.01) == 1  # over three times of it


def test_what_cannot_run_says_why_and_is_not_timed() -> None:
    def fails(error: Exception) -> Callable[[int], object]:
        def step(turn: int) -> object:
            raise error

        return step

    steps = {"a": fails(RuntimeError("no memory\nat all")), "b": fails(Failure("no weights")), "c": lambda turn: None}
    assert warm_up(steps) == {"a": "no memory", "b": "no weights"}
    with pytest.raises(ZeroDivisionError):
        warm_up({"a": fails(ZeroDivisionError())})


def test_cost_is_of_an_image_and_saved_of_the_last_way_round_by_round() -> None:
    # The machine was three times as slow in the second round: what is saved doesn't show it.
    seconds = {"student": [1.0, 3.0, 1.0], "head": [1.0, 3.0, 1.0], "teacher": [7.0, 21.0, 7.0]}
    rows = cost(seconds, {"student": ["student"], "mine": ["student", "head"], "teacher": ["student", "teacher"]}, 2)
    assert [row["seconds"].value for row in rows.values()] == [0.5, 1.0, 4.0]
    assert [row["saved"].value for row in rows.values()] == [pytest.approx(0.875), pytest.approx(0.75), None]
    assert rows["teacher"]["saved"].why == "is the row itself"
    assert rows["mine"]["seconds"].n == 3


@pytest.mark.parametrize(("n", "low", "high"), [(5, None, None), (6, 0, 5), (8, 0, 7), (9, 1, 7), (20, 5, 14)])
def test_the_interval_of_a_median_is_the_sign_tests(n: int, low: float | None, high: float | None) -> None:
    value = median([float(v) for v in reversed(range(n))])
    assert (value.value, value.low, value.high, value.n) == ((n - 1) / 2, low, high, n)
