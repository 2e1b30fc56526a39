from collections.abc import Generator
from typing import Any

import pytest
from research import scaling
from scipy.stats import ttest_1samp

from undistill.base.errors import UsageError
from undistill.pairs.create import Timing


def test_the_clock_runs_when_all_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process 2 is 6 s later than 1, which has a second shard by then. Then they draw 4 pairs each second until 15."""
    said = [(5, 1, "a", 4), (6, 1, "b", 4), (11, 2, "c", 4), (12, 1, "b", 4), (13, 2, "c", 4), (14, 1, "d", 4)]
    now = 0.0
    monkeypatch.setattr(scaling, "perf_counter", lambda: now)

    def engine(*_: Any) -> Generator[Any, None, None]:
        nonlocal now
        for now, process, shard, images in [*said, (15, 2, "c", 1)]:  # noqa: B007 (what the clock reads)
            yield process, Timing(shard, "", images, 0, 0)
        now = 99  # workers are sent home

    found = scaling.rate([], lambda: None, engine, 2)  # type: ignore[arg-type, return-value]
    assert found == (4 + 4 + 4 + 1) / (15 - 11)
    with pytest.raises(UsageError, match="larger --count"):
        scaling.rate([], lambda: None, engine, 3)  # type: ignore[arg-type, return-value]


def test_an_interval_of_a_mean() -> None:
    values = [0.97, 0.99, 0.96, 1.0]
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    assert scaling.spread_text(values) == f"0.980 [{low:.3f}, {high:.3f}]"
    assert scaling.spread_text([0.5]) == "0.500"
