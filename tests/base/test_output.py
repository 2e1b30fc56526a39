import sys

import pytest

from undistill.base.output import QUIET, console, say
from undistill.base.progress import progressed


def test_quiet_hides_bars_and_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    loud = QUIET.set(True)
    assert list(progressed("working", [1, 2])) == [1, 2]
    say("done")
    QUIET.reset(loud)
    assert capsys.readouterr() == ("", "")
    list(progressed("working", [1, 2]))
    say("done")
    said, errors = capsys.readouterr()
    assert said == "done\n"
    assert "working" in errors


def test_lines_are_broken_for_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    line = "word " * 60 + "end"
    console().print(line)
    assert capsys.readouterr().out == f"{line}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    console().print(line)
    assert len(capsys.readouterr().out.splitlines()) > 1
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    monkeypatch.setenv("COLUMNS", "100")
    console().print(line)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100
