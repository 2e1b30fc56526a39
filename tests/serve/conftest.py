"""A service of tiny's head, in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from tests.cli.conftest import undistill  # noqa: F401
from tests.conftest import running
from undistill.base.web import Server, listen
from undistill.images import Pixels
from undistill.serve.app import Limits, make_app
from undistill.serve.heads import read_heads
from undistill.serve.meters import Meters
from undistill.serve.work import Work

Serving = Callable[..., TestClient]


@pytest.fixture(scope="session")
def loaded() -> Iterator[Work]:
    devices = [torch.device("cpu")]
    # Where there are more cores than places, not all threads could be kept busy.
    made = Work(read_heads(["tiny-best", "tiny-esa"], devices), devices, places=4, threads=2)
    yield made
    made.end()


@pytest.fixture
def work(loaded: Work) -> Iterator[Work]:
    """As if new."""
    runs, loaded.meters = dict(loaded.runs), Meters(lambda: loaded.taken)
    yield loaded
    loaded.runs, loaded.closing, loaded.left = runs, False, 0


@pytest.fixture
def serving(work: Work) -> Serving:
    """A client of the service with these limits."""

    def make(**limits: Any) -> TestClient:
        return TestClient(make_app(work, Limits(**limits)), base_url="http://127.0.0.1")

    return make


def runs_instead(work: Work, run: Callable[[Pixels, float], Pixels]) -> None:
    """The first head does this."""
    work.runs[next(iter(work.heads))] = [run]


def picture(size: tuple[int, int] = (64, 64), format: str = "PNG", seed: int = 0, **options: Any) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, format, **options)
    return buffer.getvalue()


@contextmanager
def served(work: Work, **limits: Any) -> Iterator[str]:
    """The address of a service on a port of this machine."""
    with running(Server(make_app(work, Limits(**limits)), listen("127.0.0.1", 0))) as url:
        yield url
