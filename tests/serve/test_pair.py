"""Prompts, drawn by a pair."""

from base64 import b64decode
from collections.abc import Sequence
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from undistill.enhance.provenance import GENERATED, is_generated
from undistill.images import Pixels, decode
from undistill.serve.app import Limits, make_app
from undistill.serve.pair import ServedPair
from undistill.serve.work import Work


class Painter:
    """Stands for a generator: diffusers takes seconds to import."""

    spec = SimpleNamespace(name="painted")

    def student(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        made = [np.random.default_rng([seed, len(prompt)]) for prompt, seed in zip(prompts, seeds, strict=True)]
        return np.stack([random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for random in made])

    def teacher(self, prompts: Sequence[str], seeds: Sequence[int], images: Pixels) -> Pixels:
        return 255 - images


@pytest.fixture
def pair(work: Work) -> ServedPair:
    return ServedPair(Painter(), work.heads["tiny-best"], work)  # type: ignore[arg-type]


@pytest.fixture
def client(work: Work, pair: ServedPair) -> TestClient:
    return TestClient(make_app(work, Limits(), pair), base_url="http://127.0.0.1")


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


def test_a_prompt_is_drawn_enhanced_and_compared(client: TestClient, work: Work, pair: ServedPair) -> None:
    asked = {"prompt": "A portrait of Ada", "seed": 3}
    raw = client.post("/v1/generate", json={**asked, "raw": True})
    made = client.post("/v1/generate", json=asked)
    student = pair.generator.student(["A portrait of Ada"], [3])
    assert np.array_equal(pixels(raw.content), student[0])
    enhanced = work.runs["tiny-best"][0](student[0], 1.0)
    assert np.array_equal(pixels(made.content), enhanced)
    assert made.headers["Undistill-Head"] == "tiny-best"
    assert "Undistill-Head" not in raw.headers
    said = Image.open(BytesIO(made.content)).info
    assert (said["prompt"], said["seed"], said["head"]) == ("A portrait of Ada", "3", "tiny-best")
    assert all(is_generated(decode(BytesIO(reply.content)).metadata) for reply in (raw, made))
    assert GENERATED.encode() in raw.content
    both = client.post("/v1/compare", json=asked).json()
    assert set(both) == {"student", "enhanced", "teacher"}
    assert np.array_equal(pixels(b64decode(both["enhanced"]["png"])), enhanced)
    assert all(GENERATED.encode() in b64decode(each["png"]) for each in both.values())
    assert [name for name in both if b"undistill:head" in b64decode(both[name]["png"])] == ["enhanced"]
    assert both["teacher"]["seconds"] >= both["student"]["seconds"] > 0
    assert client.get("/v1/heads").json()["pair"] == "painted"


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({"json": {}}, 422, "prompt"),
        ({"json": {"prompt": "x", "sed": 1}}, 422, "did you mean seed?"),
        ({"json": {"prompt": "x", "seed": -1}}, 422, "seed"),
        ({"json": {"prompt": "x", "head": "none"}}, 422, "tiny-best"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "the body"),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "application/json"),
        ({"json": {"prompt": "x" * 80_000}}, 413, "smaller"),
    ],
)
def test_what_is_wrong_is_told(client: TestClient, asked: dict[str, dict[str, str]], status: int, says: str) -> None:
    reply = client.post("/v1/generate", **asked)  # type: ignore[arg-type]
    assert reply.status_code == status, reply.text
    assert says in reply.json()["detail"]


def test_without_a_pair_there_is_nothing_to_draw_with(work: Work) -> None:
    client = TestClient(make_app(work, Limits()), base_url="http://127.0.0.1")
    assert client.post("/v1/generate", json={"prompt": "x"}).status_code == 404
