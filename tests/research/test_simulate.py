import csv
import runpy
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import chain, repeat
from math import exp, inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from research.simulate import SimulatedWorker, shard_times, simulate, simulate_schedule, stretches

from undistill.base.errors import UsageError
from undistill.pairs.create import Timing, read_timings

TINY = Path(__file__).parents[2] / "docs" / "tiny-timings.csv"
shards = st.lists(st.floats(0.1, 100), min_size=1, max_size=40)


def lives(*seconds: float) -> Iterator[SimulatedWorker]:
    """Workers that live so long, and then some that are never killed."""
    return chain((SimulatedWorker(life=life) for life in seconds), repeat(SimulatedWorker()))


def test_hands_the_next_shard_to_who_is_free() -> None:
    """0 to 3 and 0 to 1, 1 to 3; then 3 to 5 and 3 to 7."""
    outcome = simulate_schedule([3, 1, 2, 2, 4], 2, SimulatedWorker)
    assert (outcome.makespan_s, outcome.again, outcome.lost_s) == (7, 0, 0)
    assert outcome.efficiency == 12 / 14


def test_each_worker_loads_once() -> None:
    assert simulate_schedule([10, 10, 10], 1, SimulatedWorker, load=5).makespan_s == 35
    both = simulate_schedule([10, 10, 10, 10], 2, SimulatedWorker, load=5)
    assert both.makespan_s == 25
    assert both.lost_s == 0
    assert both.efficiency == 45 / 50


def test_a_slow_worker_takes_fewer_shards() -> None:
    """0 to 30; meanwhile the other draws three."""
    workers = iter([SimulatedWorker(pace=3), SimulatedWorker()])
    assert simulate_schedule([10, 10, 10, 10], 2, lambda: next(workers)).makespan_s == 30


def test_a_death_costs_what_was_begun_and_loading_again() -> None:
    """Loads until 5, draws until 15, is killed at 22; the next one loads until 27 and draws until 47."""
    workers = lives(22)
    outcome = simulate_schedule([10, 10, 10], 1, lambda: next(workers), load=5)
    assert (outcome.makespan_s, outcome.again, outcome.lost_s) == (47 + 0, 1, 7 + 5)


def test_a_death_while_loading_costs_that_time() -> None:
    workers = lives(3)
    outcome = simulate_schedule([10], 1, lambda: next(workers), load=5)
    assert (outcome.makespan_s, outcome.lost_s) == (3 + 15, 3)


def test_the_last_shard_waits_for_a_new_worker() -> None:
    """The other one is sent home at 10; who is killed at 12 has drawn its second for 2."""
    workers = lives(12)
    outcome = simulate_schedule([10, 10, 10], 2, lambda: next(workers), load=0)
    assert (outcome.makespan_s, outcome.again, outcome.lost_s) == (22, 1, 2)


def test_three_deaths_over_a_shard_end_the_command_and_it_goes_on() -> None:
    """The first shard's workers die at 4, 8 and 12: the other has finished one at 10, and is 2 into the third."""
    workers = iter(
        [
            SimulatedWorker(life=4),
            SimulatedWorker(),
            SimulatedWorker(life=4),
            SimulatedWorker(life=4),
            *[SimulatedWorker()] * 2,
        ]
    )
    outcome = simulate_schedule([10, 10, 10], 2, lambda: next(workers))
    assert outcome.makespan_s == 12 + 10
    assert outcome.again == 3 + 1
    assert outcome.lost_s == 4 + 4 + 4 + 2


def test_who_dies_too_soon_never_ends() -> None:
    with pytest.raises(UsageError, match="live too short"):
        simulate_schedule([10], 1, lambda: SimulatedWorker(life=9))


@given(shards, st.integers(1, 64), st.floats(0, 50))
def test_between_the_bounds_of_list_scheduling(times: list[float], workers: int, load: float) -> None:
    """Graham's, with the loading before."""
    outcome = simulate(times, workers, load)
    least = load + max(sum(times) / workers, *times)
    assert outcome.makespan_s >= least * (1 - 1e-9)
    assert outcome.makespan_s <= (load + sum(times) / workers + (1 - 1 / workers) * max(times)) * (1 + 1e-9)


@given(shards, st.integers(1, 64), st.floats(0, 50), st.floats(0, 1), st.floats(1, 5), st.integers(0, 9))
def test_no_time_comes_from_nowhere(
    times: list[float], workers: int, load: float, stragglers: float, slower: float, seed: int
) -> None:
    outcome = simulate(times, workers, load, stragglers, slower, mtbf=1000, seed=seed)
    assert 0 < outcome.efficiency <= 1 + 1e-9
    spent = min(workers, len(times)) * load + sum(times) + outcome.lost_s  # or more, where some are slow
    assert workers * outcome.makespan_s >= spent * (1 - 1e-9)
    assert (outcome.lost_s > 1e-6) == (outcome.again > 0)
    assert outcome == simulate(times, workers, load, stragglers, slower, mtbf=1000, seed=seed)


@given(shards, st.integers(0, 9))
def test_one_worker_never_waits(times: list[float], seed: int) -> None:
    outcome = simulate(times, 1, load=10, mtbf=300, seed=seed)
    assert outcome.makespan_s == pytest.approx(10 + sum(times) + outcome.lost_s)


def test_lives_are_exponential() -> None:
    """Drawn again from the beginning until it is whole, a shard takes mtbf (exp(t / mtbf) - 1) in the mean."""
    outcome = simulate([1.0] * 5000, 1, mtbf=10, seed=1)
    assert outcome.makespan_s / 5000 == pytest.approx(10 * (exp(0.1) - 1), rel=0.01)
    assert simulate([1.0] * 5000, 1, mtbf=inf).makespan_s == 5000


def test_the_share_of_slow_workers_is_kept() -> None:
    """One shard each: the mean of 1 and 3 at one in four."""
    found = [simulate([1.0], 1, stragglers=0.25, slower=3, seed=seed).makespan_s for seed in range(2000)]
    assert set(found) == {1.0, 3.0}
    assert sum(found) / 2000 == pytest.approx(1.5, abs=0.06)


def drawn(*shards: list[float], images: int = 4) -> list[Timing]:
    """Batches of such seconds."""
    return [
        Timing(f"shard-{number:06}.parquet", f"{number}-{place}", images, 0.0, seconds)
        for number, batches in enumerate(shards)
        for place, seconds in enumerate(batches)
    ]


def test_sums_up_the_batches_of_a_shard() -> None:
    mixed = sorted(drawn([1, 2, 3], [4, 5]), key=lambda timing: timing.first[-1])  # as two workers end them
    assert shard_times(mixed) == [6, 9]


def test_shards_are_stretches_of_the_batches() -> None:
    """First batches have waited for the models; the rest is 2 s an image, whatever the shard."""
    timings = drawn([99, 8, 8], [99, 8, 8])
    assert stretches(timings, [1, 4, 16, 100], seed=0) == pytest.approx([2, 8, 32, 200])
    assert stretches(drawn([8], [8]), [4], seed=0) == pytest.approx([8])  # there are no others


def test_stretches_are_as_uneven_as_the_batches() -> None:
    """Half of 1,000 images took 1 s each, the other 3: a stretch lies in the one or the other, or sees the border."""
    timings = drawn([4.0] * 125, [12.0] * 125)
    times = stretches(timings, [10] * 2000, seed=3)
    assert sum(times) / 2000 == pytest.approx(20, rel=0.02)
    assert sum(10.01 < time < 29.99 for time in times) / 2000 == pytest.approx(0.02, abs=0.01)
    whole = stretches(timings, [992] * 5, seed=3)  # without the first batches
    assert whole == pytest.approx([124 * 16] * 5)


def test_two_workers_of_tiny_took_what_is_simulated() -> None:
    """10,000 pairs (docs/scale.md); without PNG and writing, which is not timed: up to 2% less, and never more."""
    with TINY.open(newline="") as file:
        rows = list(csv.DictReader(file))
    first, last = (datetime.fromisoformat(rows[place]["ended"]) for place in (0, -1))
    real = (last - first).total_seconds() + float(rows[0]["student_s"]) + float(rows[0]["teacher_s"])
    simulated = simulate(shard_times(read_timings(TINY)), 2).makespan_s
    assert 0.98 * real < simulated < real


def call(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["simulate", *options])
    monkeypatch.delitem(sys.modules, "research.simulate", raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module("research.simulate", run_name="__main__")
    return int(end.value.code or 0)


def test_prints_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "timings.csv"
    log.write_text("ended,shard,first,images,student_s,teacher_s\nx,a,0,4,1,1\nx,a,0,4,1,3\nx,a,1,4,1,3\n")
    options = ["--count", "100", "--shard-size", "10", "--pairs-per-day", "24", "--repeats", "2"]
    assert call(monkeypatch, str(log), "--workers", "1", "--workers", "4", *options) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "10 shards, 3.6e+03 s a pair, a shard takes 600 [600, 600] minutes"
    assert "| 1 | 100 [100, 100] | 1 [1, 1] | 0 [0, 0] | 0 [0, 0] |" in said
    assert "| 4 | 30 [30, 30] | 0.833 [0.833, 0.833] | 0 [0, 0] | 0 [0, 0] |" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "can't be read"),
        ("", "says nothing yet"),
        ("id,name\n1,x\n", "is no timings.csv"),
        ("ended,shard,first,images,student_s,teacher_s\nx,a,0,four,1,1\n", "is no timings.csv"),
        ("ended,shard,first,images,student_s,teacher_s\nx,a,0,4,nan,1\n", "is no timings.csv"),
    ],
)
def test_a_bad_log_is_one_line(
    text: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    if text is not None:
        (tmp_path / "timings.csv").write_text(text)
    assert call(monkeypatch, str(tmp_path / "timings.csv")) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
