from collections.abc import Generator
from typing import Any

import pytest

from undistill.pairs import scaling
from undistill.pairs.create import Timing


def test_the_clock_runs_when_all_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers; b is 6 s later than a. Then they draw 4 pairs each second until b's last batch, of 1."""
    said = [(5, "a", 4), (6, "a", 4), (11, "b", 4), (12, "a", 4), (13, "b", 4), (14, "c", 4), (15, "b", 1)]
    now = 0.0
    monkeypatch.setattr(scaling, "perf_counter", lambda: now)

    def engine(*_: Any) -> Generator[Any, None, None]:
        nonlocal now
        for now, shard, images in said:  # noqa: B007 (what the clock reads)
            yield Timing(shard, "", images, 0, 0)
        now = 99  # workers are sent home

    assert scaling.rate([], lambda: None, engine, 2) == (4 + 4 + 4 + 1) / (15 - 11)  # type: ignore[arg-type, return-value]
