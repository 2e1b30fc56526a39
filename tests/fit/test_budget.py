from dataclasses import replace

import pytest

from undistill.base.errors import UsageError
from undistill.dataset import parse_split
from undistill.fit.budget import SHARD, Speeds, afford, parts_of, refuse_hopeless
from undistill.fit.request import EFFORTS, Request, read_budget

FAST = Speeds(pair=0.1, step=0.1, look=0.005, how="", workers=2)
TINY = Request(pair="tiny", quality="draft")
GOOD = replace(TINY, quality="good")


def test_what_is_measured_is_no_part_of_what_is_trained_on() -> None:
    before = 1.0
    for images in (60, 256, 1024, 2000, 10_000, 140_000, 10**7):
        parts = parts_of(images)
        train, val, measured = map(parse_split, (parts.train, parts.val, parts.measured))
        assert train[0] == 0
        assert train[1] == val[0] < val[1] == measured[0] < measured[1] == 1
        assert parts.share == pytest.approx(1 - measured[0])
        assert parts.share <= before  # what was trained on with fewer images is never measured with more
        before = parts.share
    assert parts_of(140_000).share * 140_000 == pytest.approx(1000, rel=0.1)


def test_without_a_budget_it_is_what_the_quality_says() -> None:
    amounts = afford(TINY, FAST, 4000)
    assert (amounts.pairs, amounts.steps) == (256, 200)
    assert amounts.train_s == pytest.approx(20)
    assert afford(TINY, FAST, 200).steps == 50  # a quarter of the recipe's
    good = afford(GOOD, FAST, 4000)
    assert (good.pairs, good.steps) == (EFFORTS["good"].pairs, 4000)
    assert good.draw_s == pytest.approx(4096 * 0.1 / 2)
    assert afford(replace(TINY, count=300), FAST, 4000).pairs == 300
    assert afford(replace(TINY, count=256), FAST, 4000).draw_s == pytest.approx(25.6)  # one shard, one worker


def test_a_budget_takes_fewer_of_both() -> None:
    whole = afford(GOOD, FAST, 4000)
    for budget in (600.0, 400.0, 200.0):
        some = afford(replace(GOOD, budget=budget), FAST, 4000)
        assert some.seconds <= 0.9 * budget
        assert some.pairs % SHARD == 0
        assert 256 <= some.pairs < whole.pairs
        assert 100 <= some.steps < whole.steps
    assert afford(replace(GOOD, budget=9000.0), FAST, 4000) == whole
    fixed = afford(replace(GOOD, budget=300.0, count=1024), FAST, 4000)
    assert fixed.pairs == 1024
    assert fixed.steps < whole.steps


def test_a_budget_that_measures_nothing_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"a budget of 1 min .*|a budget of 60 s is too small to measure anything: 256"
    ):
        afford(replace(TINY, budget=60.0), FAST, 4000)
    with pytest.raises(UsageError, match="to begin and to draw 256 pairs take 11 h"):
        refuse_hopeless(3600.0, 150.0)
    refuse_hopeless(3600.0, 10.0)
    with pytest.raises(UsageError, match="100,000 pairs"):
        afford(replace(TINY, budget=600.0, count=100_000), FAST, 4000)


def test_pairs_that_are_there_stay() -> None:
    more = afford(replace(TINY, count=2048), FAST, 4000, have=1024)
    assert more.draw_s == pytest.approx(1024 * 0.1 / 2)
    assert afford(replace(TINY, budget=150.0), FAST, 4000, have=1024).pairs == 1024
    with pytest.raises(UsageError, match="1024 pairs are there already"):
        afford(replace(TINY, count=512), FAST, 4000, have=1024)
    there = afford(Request(data="/pairs", budget=200.0), replace(FAST, pair=0.0), 4000, fixed=700)
    assert (there.pairs, there.draw_s) == (700, 0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("8h", 28_800), ("15m", 900), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400)]
)
def test_budgets_are_read(text: str, seconds: float) -> None:
    assert read_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "0m", "tomorrow", "8h 15"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(UsageError, match="write a time like 8h, 15m or 1h30m"):
        read_budget(text)
