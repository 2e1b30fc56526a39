"""The command line, run in this process: diffusers takes seconds to import."""

import sys
from collections.abc import Callable

import pytest

from undistill.cli import main

Run = Callable[..., tuple[int | str | None, str, str]]


@pytest.fixture
def undistill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Gives exit code, output and errors."""

    def run(*arguments: object) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["undistill", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        written = capsys.readouterr()
        return end.value.code, written.out, written.err

    return run
