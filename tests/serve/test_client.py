"""The client, against a service in this process, on a port of this machine."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread, Timer
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import undistill as package
from tests.cli.conftest import Run
from tests.serve.conftest import picture, runs_instead, served
from undistill.base.errors import Failure, UsageError
from undistill.enhance import Enhancer
from undistill.images import ImageError
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
