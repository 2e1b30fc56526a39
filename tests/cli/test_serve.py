import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.cli.conftest import Run
from tests.serve.conftest import picture
from undistill.cli.serve import _tell


def test_others_need_a_key_or_a_word(undistill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDISTILL_API_KEY", raising=False)
    code, _, errors = undistill("serve", "--host", "0.0.0.0")
    assert code == 2
    assert "UNDISTILL_API_KEY" in errors
    assert "--no-key" in errors
    monkeypatch.setenv("UNDISTILL_API_KEY", "short")
    code, _, errors = undistill("serve")
    assert code == 2
    assert "16 characters" in errors
    monkeypatch.setenv("UNDISTILL_API_KEY", "a-key-of-sixteen-or-more")
    assert undistill("serve", "--no-key")[0] == 2


def test_what_cannot_be_had_is_one_line(undistill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, errors = undistill("serve", "--port", "0", "--head", "none")
    assert code == 2
    assert "no head 'none'" in errors
    code, _, errors = undistill("serve", "--port", "0", "--head", "tiny-best", "--head", "tiny-best")
    assert code == 2
    assert "NAME=DIR" in errors
    code, _, errors = undistill("serve", "--host", "127.0.0.1", "--port", "0", "--device", "cuda:99")
    assert code == 2
    for words, said in (
        (("--replicas", 2), "goes with --engine ray"),
        (("--engine", "ray", "--pair", "tiny"), "don't go with --engine ray"),
        (("--address", "127.0.0.1:1"), "--address goes with --engine ray"),
        (("--engine", "ray", "--address", "127.0.0.1:1", "--backend", "torch", "--port", 0), "no Ray cluster at"),
    ):
        code, _, errors = undistill("serve", *words)
        assert (code, len(errors.splitlines())) == (2, 1)
        assert said in errors
    monkeypatch.setitem(sys.modules, "undistill.base.web", None)
    code, _, errors = undistill("serve")
    assert code == 2
    assert "pip install 'undistill[serve]'" in errors


@pytest.mark.e2e
def test_sigterm_finishes_what_was_accepted_and_refuses_the_rest(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "undistill", "serve", "--port", "0", "--head", "tiny-best", "--backend", "torch"]
    environment = {name: value for name, value in os.environ.items() if name != "UNDISTILL_API_KEY"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as it:
        assert it.stdout is not None
        url = re.findall(r"http://\S+(?=/ )", it.stdout.readline())[0]
        whole = httpx2.post(f"{url}/v1/enhance", files={"image": picture()}, timeout=30)
        assert whole.status_code == 200

        def ask(number: int) -> str:
            try:
                reply = httpx2.post(f"{url}/v1/enhance", files={"image": picture()}, timeout=30)
            except (httpx2.ConnectError, httpx2.RemoteProtocolError, httpx2.ReadError):
                return "refused"
            return "answered" if reply.content == whole.content else reply.json()["type"]

        with ThreadPoolExecutor(8) as pool:
            answers = []
            for number, answer in enumerate(pool.map(ask, range(200))):
                answers.append(answer)
                if number == 60:
                    it.send_signal(signal.SIGTERM)
        assert it.wait(20) == 0
        assert "ended" in it.stdout.read()
    assert set(answers) <= {"answered", "refused", "urn:undistill:closing"}
    assert answers.count("answered") > 60
    assert "refused" in answers


@pytest.mark.parametrize("origin", ["*", "https://a/", "a.example", "https://A.example", "https://a:443", "null"])
def test_an_origin_that_no_browser_sends_is_refused(origin: str, undistill: Run) -> None:
    code, _, errors = undistill("serve", "--cors", "http://localhost:3000", "--cors", origin)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert f"--cors {origin} is no origin" in errors


def test_limits_and_keys_that_could_not_hold_are_refused(undistill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "178" in undistill("serve", "--max-megapixels", "300")[2]
    monkeypatch.setenv("UNDISTILL_API_KEY", "schl\u00fcssel-von-sechzehn")
    code, _, errors = undistill("serve")
    assert (code, "of ASCII alone" in errors) == (2, True)


def test_only_what_is_true_is_said_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    _tell(0)
    assert capsys.readouterr().out == "ended; all that was taken is answered\n"
    _tell(2)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "ended; of what was taken, 2 not answered\n")
