"""Places, threads and time: who is let in, and what is not computed."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.serve.conftest import Serving, picture, runs_instead
from undistill.enhance import Enhancer
from undistill.images import Pixels
from undistill.serve.app import Limits, make_app
from undistill.serve.pair import ServedPair
from undistill.serve.together import Together
from undistill.serve.work import Work


def test_a_full_queue_is_told_when_to_come_again(serving: Serving, work: Work) -> None:
    client = serving()
    with work.place(), work.place(), work.place(), work.place():
        reply = client.post("/v1/enhance", files={"image": picture()})
    assert (reply.status_code, reply.json()["type"]) == (503, "urn:undistill:full")
    assert int(reply.headers["Retry-After"]) >= 1
    assert client.post("/v1/enhance", files={"image": picture()}).status_code == 200


def test_an_ending_service_takes_nothing_more(serving: Serving, work: Work) -> None:
    client = serving()
    work.close()
    assert client.post("/v1/enhance", files={"image": picture()}).json()["type"] == "urn:undistill:closing"
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_work_that_takes_too_long_is_told(serving: Serving, work: Work) -> None:
    free = Event()

    def slow(pixels: Pixels, strength: float) -> Pixels:
        free.wait(10)
        return pixels

    runs_instead(work, slow)
    reply = serving(seconds=0.2).post("/v1/enhance", files={"image": picture()})
    free.set()
    assert (reply.status_code, reply.json()["type"]) == (504, "urn:undistill:late")
    assert reply.json()["detail"].startswith("It took more than 0.2 s:")
    assert work.taken == 0


async def ask(
    app: Any,
    body: bytes,
    messages: list[dict[str, Any]],
    slowly: float = 0.0,
    path: str = "/v1/enhance",
    kind: bytes = b"image/png",
) -> list[dict[str, Any]]:
    """A request whose client sends these messages after its body; what it is sent."""
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}, *messages]

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(slowly)
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", kind)]
    where = {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "headers": headers, **where}
    await app({**scope, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}, receive, send)
    return sent


def test_a_client_that_went_away_is_not_computed(work: Work) -> None:
    free = Event()
    computed: list[tuple[int, ...]] = []

    def slow(pixels: Pixels, strength: float) -> Pixels:
        computed.append(pixels.shape)
        free.wait(30)
        return pixels

    runs_instead(work, slow)
    app = make_app(work, Limits())

    async def both() -> None:
        gone = [{"type": "http.disconnect"}]
        busy = [asyncio.create_task(ask(app, picture((64, 64 + n)), [])) for n in range(work.hands)]
        async with asyncio.timeout(60):
            while len(computed) < work.hands:
                await asyncio.sleep(0.01)
        assert await ask(app, picture((96, 96)), gone) == []
        assert work.taken == work.hands
        free.set()
        for task in busy:
            assert (await task)[0]["status"] == 200

    asyncio.run(both())
    assert sorted(computed) == [(64 + n, 64, 3) for n in range(work.hands)]


def test_a_body_that_comes_too_slowly_is_refused(work: Work) -> None:
    app = make_app(work, Limits(seconds=0.05))
    sent = asyncio.run(ask(app, picture(), [], slowly=1.0))
    assert sent[0]["status"] == 408
    assert work.taken == 0


def test_what_waits_together_runs_together_and_is_not_mixed_up() -> None:
    free = Event()
    sizes: list[int] = []
    enhancer = Enhancer("tiny-best", "cpu")

    class Slow:
        def __call__(self, batch: Pixels, strength: float) -> Pixels:
            free.wait(10)
            return enhancer(batch, strength)

    pictures = [np.full((64, 64, 3), 20 * n, np.uint8) for n in range(9)]
    slow, together = Slow(), Together(4, sizes.append)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(together, slow, pictures[0], 1.0)  # type: ignore[arg-type]
        time.sleep(0.1)
        rest = [pool.submit(together, slow, image, 1.0) for image in pictures[1:]]  # type: ignore[arg-type]
        time.sleep(0.1)
        free.set()
        results = [future.result() for future in (first, *rest)]
    assert sizes == [1, 4, 4]
    for result, image in zip(results, pictures, strict=True):
        assert np.abs(result.astype(int) - enhancer(image)).max() <= 1


def test_an_error_of_a_batch_is_told_to_each_of_it() -> None:
    class Broken:
        def __call__(self, batch: Pixels, strength: float) -> Pixels:
            raise RuntimeError("no memory")

    together = Together(4, lambda _: None)
    for _ in range(2):  # and its thread goes on
        with pytest.raises(RuntimeError, match="no memory"):
            together(Broken(), np.zeros((8, 8, 3), np.uint8), 1.0)  # type: ignore[arg-type]


def test_what_the_end_of_the_server_cuts_off_is_counted(work: Work) -> None:
    free, begun = Event(), Event()

    def slow(pixels: Pixels, strength: float) -> Pixels:
        begun.set()
        free.wait(30)
        return pixels

    runs_instead(work, slow)
    app = make_app(work, Limits())

    async def cut() -> None:
        assert (await ask(app, picture()[:9], []))[0]["status"] == 415
        assert await ask(app, picture(), [{"type": "http.disconnect"}]) == []
        assert work.left == 0  # these had no use for an answer, or got one
        for ends in (False, True):  # Ray's proxy cancels what a client has left
            begun.clear()
            task = asyncio.create_task(ask(app, picture(), []))
            assert await asyncio.to_thread(begun.wait, 60)
            work.closing = ends
            task.cancel()
            await asyncio.wait([task])
            assert work.left == ends

    try:
        asyncio.run(cut())
    finally:
        free.set()
    assert (work.left, work.taken) == (1, 0)


def test_draws_keep_no_thread_from_enhancing_and_none_is_drawn_for_nobody(work: Work) -> None:
    free, drawn = Event(), list[int]()

    class Slow:
        spec = SimpleNamespace(name="slow")

        def student(self, prompts: Any, seeds: Any) -> Pixels:
            drawn.extend(seeds)
            free.wait(30)
            return np.zeros((1, 64, 64, 3), np.uint8)

    app = make_app(work, Limits(), ServedPair(Slow(), None, work))  # type: ignore[arg-type]

    async def draw(seed: int, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        asked = json.dumps({"prompt": "x", "seed": seed}).encode()
        return await ask(app, asked, messages, path="/v1/generate", kind=b"application/json")

    async def all_of_it() -> None:
        draws = [asyncio.create_task(draw(seed, [])) for seed in range(work.hands)]
        async with asyncio.timeout(60):
            while not drawn:
                await asyncio.sleep(0.01)
            assert await draw(99, [{"type": "http.disconnect"}]) == []
            assert (await ask(app, picture(), []))[0]["status"] == 200
            assert len(drawn) == 1
            free.set()
            assert [(await each)[0]["status"] for each in draws] == [200] * work.hands

    try:
        asyncio.run(all_of_it())
    finally:
        free.set()
    assert sorted(drawn) == list(range(work.hands))
