"""Progress bars."""

import pytest

from undistill.base.progress import HowFar, progress, progressed, watched


def test_a_narrow_terminal_cuts_the_words_not_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with progress("training", 20_000) as bar:
        bar.advance("gan 0.652 cycle 0.002 identity 0.000 tone 0.000 chroma 0.000 discriminator 0.311", by=20_000)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("training ━")
    assert "20000/20000" in line
    assert "left" in line
    assert "gan 0" in line
    assert line.rstrip().endswith("…")


def test_a_loop_that_an_error_leaves_ends_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        for _ in progressed("working", [1, 2]):
            raise ValueError("an item is bad")

    with pytest.raises(ValueError, match="bad") as kept:
        work()
    assert "working" in capsys.readouterr().err
    assert kept.value.__traceback__ is not None


def test_a_watcher_is_told_how_far_a_bar_is(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[HowFar] = []
    with watched(told.append), progress("drawing", 8, 2, shown=False) as bar:
        bar.advance(by=2)
        bar.advance(by=4)
    with progress("drawing", 8) as bar:
        bar.advance()
    assert [(far.what, far.done, far.total) for far in told] == [("drawing", 4, 8), ("drawing", 8, 8)]
    assert told[-1].left == 0
