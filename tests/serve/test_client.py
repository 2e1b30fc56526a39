"""The client, against a service in this process, on a port of this machine."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Semaphore, Thread, Timer
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import undistill as package
from tests.cli.conftest import Run
from tests.serve.conftest import picture, runs_instead, served
from undistill.base.errors import Failure, UsageError
from undistill.client import enhance_remotely
from undistill.enhance import Enhancer
from undistill.enhance.bytes import Enhanced
from undistill.enhance.change import Change
from undistill.enhance.files import enhance_files
from undistill.enhance.jobs import list_jobs
from undistill.images import ImageError, Pixels
from undistill.serve.work import Work


@pytest.fixture
def url(work: Work) -> Iterator[str]:
    with served(work) as address:
        yield address


def test_pictures_come_back_as_the_enhancer_gives_them(url: str) -> None:
    client, enhancer = package.Client(url), Enhancer("tiny-best", "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    assert np.array_equal(client.enhance(pixels, strength=0.5), enhancer(pixels, 0.5))
    image = Image.fromarray(pixels)
    image.putalpha(Image.fromarray(pixels[..., 0]))
    image.info["parameters"] = "seed 7"
    ours, theirs = client.enhance(image), enhancer(image)
    assert (ours.mode, ours.info) == (theirs.mode, theirs.info)
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    grey = image.convert("L")
    assert np.array_equal(np.asarray(client.enhance(grey)), np.asarray(enhancer(grey)))
    with pytest.raises(ValueError, match="take"):
        client.enhance(pixels.astype(np.float32))  # type: ignore[type-var]
    assert [head["name"] for head in client.heads()] == ["tiny-best", "tiny-esa"]
    with pytest.raises(ImageError, match="take one of tiny-best"):
        client.enhance(pixels, head="flux1")


def test_a_folder_by_a_service_is_what_it_is_here(
    url: str,
    undistill: Run,
    tmp_path: Path,
) -> None:
    said = PngInfo()
    said.add_text("parameters", "seed 7")
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(picture(seed=number, pnginfo=said))
    (folder / "3.jpg").write_bytes(picture(format="JPEG"))
    (folder / "4.gif").write_bytes(picture(format="GIF"))
    (folder / "broken.png").write_bytes(picture()[:300])
    here, there = tmp_path / "here", tmp_path / "there"
    first = undistill("enhance", folder, "-o", here, "--head", "tiny-best", "--backend", "torch")
    second = undistill("enhance", folder, "-o", there, "--server", url)
    assert first[0] == second[0] == 1  # the broken one
    assert second[1] == first[1].replace("here", "there")
    assert [line for line in second[2].splitlines() if "broken.png" in line] == [
        line for line in first[2].splitlines() if "broken.png" in line
    ]
    names = sorted(path.name for path in here.iterdir())
    assert names == sorted(path.name for path in there.iterdir())
    assert len(names) == 6
    for name in names:
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert "0 enhanced, 5 done before" in undistill("enhance", folder, "-o", here, "--server", url)[1]
    assert "0 to enhance" in undistill("enhance", folder / "0.png", "-o", here, "--server", url, "--dry-run")[1]
    code, _, errors = undistill("enhance", folder, "-o", tmp_path / "x", "--server", url, "--head", "flux1")
    assert (code, "take one of tiny-best, tiny-esa" in errors) == (2, True)
    assert undistill("enhance", folder, "--server", url, "--device", "cpu")[0] == 2
    assert undistill("enhance", folder, "-o", tmp_path / "y", "--server", "localhost")[0] == 2


def test_what_is_full_is_asked_again(url: str, work: Work) -> None:
    runs_instead(work, lambda pixels, strength: pixels)
    places, work.places = work.places, 0
    with pytest.raises(Failure, match="places are taken"):
        package.Client(url, patience=0.5).enhance(np.zeros((64, 64, 3), np.uint8))
    timer = Timer(0.3, lambda: setattr(work, "places", places))
    timer.start()
    assert package.Client(url, patience=30).enhance(np.zeros((64, 64, 3), np.uint8)).shape == (64, 64, 3)
    timer.join()


def test_a_proxy_that_has_lost_the_service_is_asked_again() -> None:
    class Lost(BaseHTTPRequestHandler):
        answers: ClassVar = [(500, b"Internal Server Error"), (502, b""), (200, b'{"heads": []}')]

        def do_GET(self) -> None:
            status, body = self.answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Lost) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        assert package.Client(f"http://127.0.0.1:{server.server_port}").heads() == []
        server.shutdown()


def test_a_key_is_sent_and_what_is_gone_is_told(
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "a-key-of-sixteen-or-more"
    monkeypatch.delenv("UNDISTILL_API_KEY", raising=False)
    with served(work, keys=(key,)) as url:
        with pytest.raises(UsageError, match="A key is needed"):
            package.Client(url).heads()
        assert package.Client(url, key=key).heads()
        monkeypatch.setenv("UNDISTILL_API_KEY", f"{key},another-key-of-sixteen")
        assert package.Client(url).heads()
    with pytest.raises(Failure, match="can't be reached"):
        package.Client(url, patience=0.0).heads()
    with pytest.raises(UsageError, match="write it as http"):
        package.Client("ftp://127.0.0.1")


class Silent(BaseHTTPRequestHandler):
    """A service that takes images, and never answers."""

    asked = Semaphore(0)
    ended = Event()

    def do_GET(self) -> None:
        said = json.dumps({"heads": [{"name": "tiny-best", "hash": "0"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_POST(self) -> None:
        self.asked.release()
        self.ended.wait(30)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def silent() -> Iterator[str]:
    Silent.ended.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    Silent.ended.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_ctrl_c_ends_it_though_no_answer_comes(silent: str, undistill: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(picture(seed=number))
    times: list[float] = []

    def interrupt() -> None:
        for _ in range(3):
            assert Silent.asked.acquire(timeout=60)
        times.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = Thread(target=interrupt)
    thread.start()
    code, _, errors = undistill("enhance", folder, "-o", tmp_path / "out", "--server", silent)
    took = time.monotonic() - times[0]
    thread.join()
    assert (code, errors.splitlines()[-1]) == (130, "undistill: interrupted; the same command goes on")
    assert took < 10  # an answer would be waited for twelve times as long


def test_who_waits_to_ask_again_is_told_to_give_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    client = package.Client(address)
    Timer(0.1, client.give_up).start()
    begun = time.monotonic()
    with pytest.raises(Failure, match="is not asked any more"):
        client.heads()
    assert time.monotonic() - begun < 10


def test_a_service_that_is_gone_is_waited_for_once(tmp_path: Path) -> None:
    """Not a minute for each image."""
    calls: list[str] = []

    class Gone:
        def enhance_bytes(self, *_: object) -> Enhanced:
            calls.append("asked")
            raise Failure("http://127.0.0.1:1 can't be reached")

    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(picture())
    jobs, head = list_jobs([tmp_path], tmp_path / "out"), {"head": "tiny-best", "weights": "0"}
    remake = partial(enhance_remotely, head=head)
    with pytest.raises(Failure, match="can't be reached"):
        enhance_files(jobs, tmp_path / "out", Gone, head, Change(), remake=remake)
    assert calls == ["asked"]


def test_what_fails_there_with_one_image_is_that_image_s(work: Work) -> None:
    def run(pixels: Pixels, strength: float) -> Pixels:
        if pixels.shape[0] == 96:
            raise RuntimeError("broken")
        return pixels

    runs_instead(work, run)
    with served(work) as url:
        client = package.Client(url)
        with pytest.raises(ImageError):
            client.enhance(np.zeros((96, 64, 3), np.uint8))
        assert client.enhance(np.zeros((64, 64, 3), np.uint8)).shape == (64, 64, 3)


def test_options_of_a_folder_do_there_what_they_do_here(url: str, undistill: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "1.gif").write_bytes(picture(format="GIF"))
    (folder / "2.jpg").write_bytes(picture(format="JPEG"))
    here, there = tmp_path / "here", tmp_path / "there"
    undistill("enhance", folder, "-o", here, "--head", "tiny-best", "--backend", "torch", "--quality", "80")
    code, output, _ = undistill("enhance", folder, "-o", there, "--server", url, "--quality", "80")
    assert (code, output.split()[0]) == (None, "2")
    for name in ("1.png", "2.jpg"):
        assert (here / name).read_bytes() == (there / name).read_bytes()


def test_faces_are_found_there_not_here(
    url: str, undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undistill.faces.models", lambda: pytest.fail("faces are looked for here"))
    source = tmp_path / "1.png"
    source.write_bytes(picture())
    asked = ("enhance", source, "-o", tmp_path / "out", "--server", url, "--where", "face", "--dry-run")
    assert undistill(*asked)[0] is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:abc", "http://[::1", "http://127.0.0.1:99999", "localhost"])
def test_an_address_that_is_none_is_one_line(url: str, undistill: Run, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(picture())
    code, _, errors = undistill("enhance", tmp_path / "1.png", "-o", tmp_path / "out", "--server", url)
    assert (code, errors) == (
        2,
        f"undistill: {url} is no address of a service: write it as http://127.0.0.1:8000\n",
    )


@pytest.mark.parametrize("key", ["schlüssel-von-16-zeichen", "sixteen-letters-\x07"])
def test_a_key_that_no_header_holds_is_one_line(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDISTILL_API_KEY", key)
    with pytest.raises(UsageError, match="of ASCII alone"):
        package.Client("http://127.0.0.1:1")
