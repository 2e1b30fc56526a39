"""How commands end."""

import os
import signal
import subprocess
import sys
from errno import EACCES, EDQUOT, EIO, ENOSPC
from pathlib import Path

import pytest
import typer

from undistill.base.command import run
from undistill.base.errors import naming
from undistill.base.output import say


def ends(by: signal.Signals | OSError | None, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """The exit code of a command that gets a signal, or that meets an error."""
    app = typer.Typer()

    @app.command()
    def work() -> None:
        if isinstance(by, OSError):
            raise by
        if by is not None:
            os.kill(os.getpid(), by)
        say("done")

    monkeypatch.setattr(sys, "argv", ["undistill"])
    with pytest.raises(SystemExit) as end:
        run(app)
    return end.value.code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_sigterm_is_ctrl_c(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert ends(number, monkeypatch) == code
    assert capsys.readouterr() == ("", "undistill: interrupted; the same command goes on\n")
    assert signal.getsignal(signal.SIGTERM) == before
    assert ends(None, monkeypatch) in (None, 0)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(ENOSPC, "No space left", "out/a.png"), "out/a.png: No space left; free some space, then run"),
        (OSError(EDQUOT, "Quota exceeded", "a.png"), "a.png: Quota exceeded; free some space, then run"),
        (OSError(EACCES, "Permission denied", "a.png"), "a.png: Permission denied; look at its rights\n"),
        (OSError(EIO, "Input/output error", "a.png"), "a.png: Input/output error\n"),
        (OSError(ENOSPC, "No space left"), "the output: No space left; free some space"),
        (OSError("the hub says no\nat length"), "undistill: the hub says no\n"),
    ],
)
def test_the_systems_errors_are_one_line_with_the_path(
    error: OSError, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(error, monkeypatch) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_errors_of_open_files_get_their_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, naming(tmp_path / "mine"):
        raise OSError(ENOSPC, "No space left")
    assert caught.value.filename == str(tmp_path / "mine")
    with pytest.raises(OSError, match="No space") as caught, naming(tmp_path / "mine"):
        raise OSError(ENOSPC, "No space left", "other")
    assert caught.value.filename == "other"


def test_a_terminated_process_leaves_one_line_and_no_file(tmp_path: Path) -> None:
    code = (
        "import os, signal, threading\n"
        "from undistill.cli import main\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "main()\n"
    )
    arguments = ("--quiet", "prompts", "--count", "1000000", "-o", str(tmp_path / "out" / "prompts.jsonl"))
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert (done.stdout, done.stderr) == ("", "undistill: interrupted; the same command goes on\n")
    assert not list(tmp_path.rglob("*.jsonl"))
