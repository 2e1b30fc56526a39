import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.cli.conftest import Run
from undistill.base.lock import locked_file
from undistill.judge.answers import AnswerFile
from undistill.judge.server import make_server
from undistill.judge.study import make_study

Folders = Callable[..., Path]


@pytest.fixture
def sides(image_folder: Folders) -> tuple[str, str]:
    return f"mine={image_folder('a', 4)}", f"theirs={image_folder('bb', 4)}"


def finished(sides: tuple[str, str], path: Path, choice: str = "left") -> None:
    study = make_study({name: Path(folder) for name, folder in (side.split("=") for side in sides)})
    answers = AnswerFile(path, study)
    for number in range(4):
        answers.answer(number, choice)


def test_serves_until_interrupted_and_goes_on(sides: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    command = [sys.executable, "-m", "undistill", "judge", *sides, "-o", str(out), "--port", "0"]
    for number in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[0]
            body = json.dumps({"question": number, "choice": "none"}).encode()
            urlopen(Request(f"{url}answer", body, {"Content-Type": "application/json"}), timeout=10).close()
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=20)
            assert process.returncode == 0
            assert errors == ""
            assert f"{number + 1} of 4 pairs judged" in said


def test_finished_answers_are_summed_up_without_a_page(sides: tuple[str, str], tmp_path: Path, undistill: Run) -> None:
    out, other = tmp_path / "answers.jsonl", tmp_path / "other.jsonl"
    finished(sides, out)
    finished(sides, other, "none")
    code, said, _ = undistill("judge", *sides, "-o", out)
    assert not code
    assert "4 of 4 pairs judged: mine won 2, theirs 2, 0 no difference." in said
    assert undistill("judge", "--summary", out)[1] == said
    assert "mine won 2, theirs 2" in undistill("judge", "--summary", out, "--summary", other)[1]


def test_two_at_one_file(sides: tuple[str, str], tmp_path: Path, undistill: Run) -> None:
    """Each would take the other's answers for its own, or drop them."""
    out = tmp_path / "answers.jsonl"
    finished(sides, out)
    whole = out.read_bytes()
    with locked_file(out):
        code, _, errors = undistill("judge", *sides, "-o", out)
        assert code == 2
        assert errors.startswith(f"undistill: another undistill is at work in {out} (process ")
        assert out.read_bytes() == whole
        finished(sides, tmp_path / "mine.jsonl")
        assert not undistill("judge", *sides, "-o", tmp_path / "mine.jsonl")[0]
    assert not undistill("judge", *sides, "-o", out)[0]


def test_exports_one_file(sides: tuple[str, str], image_folder: Folders, tmp_path: Path, undistill: Run) -> None:
    page = tmp_path / "page.html"
    more = f"more={image_folder('cccc', 6)}"
    code, said, error = undistill("judge", sides[0], more, "--export", page, "--limit", 3)
    assert not code
    assert "3 pairs ->" in said
    assert "more: 2 without a partner left out" in error
    assert page.read_text().count("data:image/png;base64,") == 6
    again = ("judge", sides[0], more, "--export", page)
    assert not undistill(*again, "--limit", 3)[0]
    code, _, error = undistill(*again)
    assert code == 2
    assert "page.html was made with other pictures: --overwrite replaces it; or give another name" in error
    assert page.read_text().count("data:image/png;base64,") == 6
    assert not undistill(*again, "--overwrite")[0]
    assert page.read_text().count("data:image/png;base64,") == 8
    assert not (tmp_path / "answers.jsonl").exists()


def test_bad_input_is_one_line(
    sides: tuple[str, str], image_folder: Folders, tmp_path: Path, undistill: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine, _ = sides
    finished(sides, tmp_path / "answers.jsonl")
    others = image_folder("empty", 0)
    (tmp_path / "notes.txt").write_text("notes")
    study = make_study({"a": tmp_path / "a", "b": tmp_path / "bb"})
    server = make_server(AnswerFile(tmp_path / "x", study), str, 0)
    with closing(server.socket):
        cases = {
            ("judge",): "give two folders",
            ("judge", mine): "give two folders",
            ("judge", mine, mine): "give two folders with different names",
            ("judge", mine, f"x={tmp_path / 'a'}"): "give two folders with different names",
            ("judge", mine, "folder"): "'folder': write NAME=DIR",
            ("judge", mine, f"x={others}"): "holds no image",
            ("judge", mine, f"x={tmp_path / 'nowhere'}"): "is not a folder",
            ("judge", *sides, "--seed", "1"): "holds answers about other folders",
            ("judge", *sides, "-o", "notes.txt"): "holds no answers",
            ("judge", *sides, "-o", tmp_path): "is a folder: name a file",
            ("judge", *sides, "--export", tmp_path): "is a folder: name a file",
            ("judge", *sides, "--overwrite"): "answers are never replaced",
            ("judge", *sides, "--export", "notes.txt"): "notes.txt is there and not made by this command",
            ("judge", "--summary", "nowhere"): "nowhere can't be read",
            ("judge", "--summary", "notes.txt"): "holds no answers",
            ("judge", *sides, "--summary", "answers.jsonl"): "--summary takes no folders",
            ("judge", *sides, "-o", "y", "--port", server.port): "can't be had",
        }
        for arguments, says in cases.items():
            code, _, error = undistill(*arguments)
            assert (code, error.count("\n")) == (2, 1), (arguments, error)
            assert says in error
    assert (tmp_path / "notes.txt").read_text() == "notes"
    next((tmp_path / "a").glob("*.png")).write_text("no picture")
    code, _, error = undistill("judge", *sides, "--export", "page.html")
    assert (code, "000.png is no image" in error.splitlines()[-1]) == (1, True)
    assert not (tmp_path / "page.html").exists()
