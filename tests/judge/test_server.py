import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.judge.conftest import serving
from undistill.base.errors import UsageError
from undistill.judge.answers import AnswerFile
from undistill.judge.server import make_server
from undistill.judge.study import Study
from undistill.report.judge import write_export


@pytest.fixture
def answers(study: Study, tmp_path: Path) -> AnswerFile:
    return AnswerFile(tmp_path / "answers.jsonl", study)


@pytest.fixture
def url(answers: AnswerFile) -> Iterator[str]:
    with serving(answers) as address:
        yield address


def ask(url: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    method, data = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
    kind = {} if body is None else {"Content-Type": "application/json"}
    connection.request(method, path, data, {**kind, **headers})
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_serves_the_page_pictures_and_keeps_answers(url: str, answers: AnswerFile, tmp_path: Path) -> None:
    status, page = ask(url, "/")
    assert status == 200
    assert b"Which looks more like a photograph?" in page
    for number, question in enumerate(answers.study.questions):
        for side in ("left", "right"):
            (tmp_path / "got.png").write_bytes(ask(url, f"/picture/{number}/{side}")[1])
            original = Image.open(str(getattr(question, side)))
            assert np.array_equal(np.asarray(Image.open(tmp_path / "got.png")), np.asarray(original))
    assert ask(url, "/result")[0] == 404  # it would tell the names
    for number in range(6):
        assert ask(url, "/answer", {"question": number, "choice": "left"})[0] == 204
        assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == number + 2
    assert answers.finished
    assert b"6 of 6 pairs judged" in ask(url, "/result")[1]


def test_neither_page_nor_addresses_tell_the_folders_or_files(url: str, study: Study, tmp_path: Path) -> None:
    write_export(study, tmp_path / "page.html")
    for html in (ask(url, "/")[1].decode(), (tmp_path / "page.html").read_text()):
        words = re.sub("base64,[A-Za-z0-9+/=]+", "", html)
        for secret in ("mine", "theirs", "secret", ".png", str(tmp_path), *(f'"{q.pair}"' for q in study.questions)):
            assert secret not in words


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"question": 6, "choice": "left"},
        {"question": -1, "choice": "left"},
        {"question": True, "choice": "left"},
        {"question": 0, "choice": "mine"},
        {"question": 0, "choice": "left", "more": "x" * 2000},
    ],
)
def test_what_is_no_answer_is_refused(url: str, answers: AnswerFile, body: object) -> None:
    assert ask(url, "/answer", body)[0] == 400
    assert answers.choices == {}


def test_other_sites_can_neither_read_nor_answer(url: str, answers: AnswerFile) -> None:
    answer = {"question": 0, "choice": "left"}
    assert ask(url, "/", Host="evil.example")[0] == 403
    assert ask(url, "/answer", answer, Host="evil.example")[0] == 400
    assert ask(url, "/answer", answer, **{"Content-Type": "text/plain"})[0] == 400
    assert answers.choices == {}
    for path in ("/picture/6/left", "/picture/0/up", "/picture/-1/left", "/picture/../../etc/passwd", "/answers.jsonl"):
        assert ask(url, path)[0] == 404


def test_a_picture_that_is_gone_and_a_port_that_is_taken(url: str, answers: AnswerFile) -> None:
    Path(str(answers.study.questions[0].left)).unlink()
    assert ask(url, "/picture/0/left")[0] == 404
    port = urlsplit(url).port
    assert port is not None
    with pytest.raises(UsageError, match=f"port {port} can't be had .*--port"):
        make_server(answers, str, port)
