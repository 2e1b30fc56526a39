"""What several tests share: images to work on, and small heads."""

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from undistill.dataset.shard import Description, PairRow, shard_path
from undistill.dataset.write import write_description, write_shard
from undistill.heads import Head

if TYPE_CHECKING:
    from undistill.base.web import Server

SHARED = Path(__file__).parents[2] / "shared"

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # In the background (nohup, &) it is ignored, and by what tests start and interrupt as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _offline_and_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("UNDISTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _torch_is_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """To time backends takes seconds."""
    monkeypatch.setattr("undistill.enhance.backends.table.fastest", lambda head, device, images=0: "torch")


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of an untrained FLUX pair of 32 px: tests/miniature.py."""
    from tests.miniature import write_pair  # it imports diffusers, for which most tests needn't wait

    return write_pair(tmp_path_factory.mktemp("miniature"))


@pytest.fixture
def portraits() -> Path:
    """Real FLUX portraits: ../shared/portraits/tiles."""
    return _shared("portraits/tiles")


@pytest.fixture
def shared_faces() -> Path:
    """Real faces of FLUX and SDXL portraits: ../shared/portraits/faces."""
    return _shared("portraits/faces")


@pytest.fixture
def vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG-16's weights, in ../shared/weights, can be had."""
    monkeypatch.setenv("UNDISTILL_WEIGHTS", str(_shared("weights")))


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/{name}, which is not here")
    return folder


def hair(side: int = 256, seed: int = 0) -> Tensor:
    """(1, 3, side, side) in [-1, 1]: fine strands, most of them within 20 degrees of one direction."""
    random = np.random.default_rng(seed)
    noise = np.fft.fft2(random.standard_normal((side, side)))
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    strands = np.exp(-(((np.mod(angle - 0.5 + np.pi / 2, np.pi) - np.pi / 2) / 0.35) ** 2))
    field = np.real(np.fft.ifft2(noise * strands * (radius > 0.02) / np.maximum(radius, 0.02)))
    field = np.tanh(field / field.std() / 2)
    colour = np.array([0.8, 0.6, 0.45]).reshape(3, 1, 1)
    return torch.from_numpy(((field + 1) * colour - 1).astype(np.float32))[None]


def strong(head: Head, seed: int = 0) -> Head:
    """The head with random weights so large that its output is far from flat: a hard case for tiles and patterns."""
    torch.manual_seed(seed)
    for module in head.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return head.eval()


def psnr(a: Tensor, b: Tensor, peak: float) -> float:
    error = (a.double() - b.double()).square().mean().clamp_min(1e-12)
    return float(10 * torch.log10(peak**2 / error))


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of small pictures: image_folder("student", 8, size=(80, 72), suffix=".png")."""

    def make(name: str, count: int, size: tuple[int, int] = (80, 72), suffix: str = ".png", seed: int = 0) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng([seed, len(name)])
        for number in range(count):
            coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:03d}{suffix}")
        return folder

    return make


@pytest.fixture
def pairs_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a pairs data set whose teacher is the student's negative: pairs_folder("pairs", 8, size=72, seed=1)."""

    def png(pixels: np.ndarray) -> bytes:
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def row(number: int, size: int, seed: int) -> PairRow:
        coarse = np.random.default_rng([seed, number]).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
        return PairRow(f"{number:06d}", f"portrait {number}", "", seed + number, png(pixels), png(255 - pixels))

    def make(name: str, count: int, size: int = 72, seed: int = 0, shard_size: int = 4) -> Path:
        folder = tmp_path / name
        spec, prompts = (sha256(f"{what} {size} {seed}".encode()).hexdigest() for what in ("spec", "prompts"))
        description = Description(
            version=1,
            pair={"name": "negative", "size": size},
            spec=spec,
            prompts=prompts,
            rows=count,
            shard_size=shard_size,
            batch=1,
        )
        write_description(folder, description)
        for number in range(description.shards):
            rows = (row(place, size, seed) for place in description.span(number))
            write_shard(shard_path(folder, number), rows, spec)
        return folder

    return make


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, and in `downloads` what it has downloaded."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'undistill[dev]'")
    chromium, driver = (
        next(filter(None, map(shutil.which, names)), None)
        for names in (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))
    )
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    downloads = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.downloads = downloads
    yield chrome
    chrome.quit()


@contextmanager
def running(server: "Server") -> Iterator[str]:
    """The address of a server that runs in a thread."""
    port = server.port
    thread = Thread(target=server.serve_on)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
        thread.join()


def wait(browser: Any, condition: Callable[[], object]) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 10, poll_frequency=0.02).until(lambda _: condition())
