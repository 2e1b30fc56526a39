"""The service on Ray Serve: without Ray what its replicas do, and with it a service whose replicas are killed."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from research.load import kill_one, service

from tests.serve.conftest import Serving, picture
from undistill.base.engines.ray import TRIES
from undistill.base.errors import UsageError
from undistill.client import Client
from undistill.enhance.bytes import Enhanced
from undistill.enhance.change import Change
from undistill.images import Encoding, ImageError
from undistill.serve.app import Limits, make_app
from undistill.serve.faces import FACES
from undistill.serve.ray import Enhancing, RemoteWork, _closed, _signalled, serve_on_ray
from undistill.serve.work import Work


class LostError(Exception):
    pass


TASK = ("tiny-best", picture(), Change(), Encoding(), True, None)


def remote(work: Work, answer: Callable[[Any], Any]) -> RemoteWork:
    """Whose replicas answer so, in this process."""
    method = SimpleNamespace(remote=lambda *task: asyncio.ensure_future(answer(*task)))
    handle = SimpleNamespace(enhance=method, faces=method)
    return RemoteWork(handle, (LostError,), list(work.heads.values()), places=4, hands=2)


@pytest.fixture
def enhancing(work: Work) -> Enhancing:
    """A replica's, of heads that are loaded already."""
    made = object.__new__(Enhancing)
    made.work = work
    return made


def test_answers_are_those_of_one_machine(serving: Serving, work: Work, enhancing: Enhancing) -> None:
    far = TestClient(make_app(remote(work, enhancing.enhance), Limits()), base_url="http://127.0.0.1")
    for body in (picture(), picture()[:200], picture(format="GIF")):
        near, other = (client.post("/v1/enhance", files={"image": body}) for client in (serving(), far))
        assert (other.status_code, other.content) == (near.status_code, near.content)
    text = far.get("/metrics").text
    assert 'undistill_seconds_count{part="work"} 3.0' in text
    far = TestClient(make_app(remote(work, enhancing.faces), Limits()), base_url="http://127.0.0.1")
    if FACES:
        assert far.post("/v1/faces", files={"image": picture()}).json() == {"faces": []}


def test_what_a_killed_replica_was_at_is_given_to_another(work: Work, enhancing: Enhancing) -> None:
    asked: list[Any] = []

    async def answer(*task: Any) -> Any:
        asked.append(task)
        if len(asked) < TRIES:
            raise LostError
        return await enhancing.enhance(*task)

    async def both() -> tuple[Enhanced, Enhanced]:
        return await remote(work, answer).enhance(*TASK), await work.enhance(*TASK)

    far, near = asyncio.run(both())
    assert far.data == near.data
    assert asked == [TASK] * TRIES

    async def gone(*task: Any) -> Any:
        asked.append(task)
        raise LostError

    asked.clear()
    with pytest.raises(LostError):
        asyncio.run(remote(work, gone).enhance(*TASK))
    assert len(asked) == TRIES

    async def broken(*task: Any) -> Any:
        return ImageError("is broken"), 0.0

    with pytest.raises(ImageError, match="is broken"):
        asyncio.run(remote(work, broken).enhance(*TASK))


def test_what_nobody_waits_for_is_given_up_there_too(work: Work) -> None:
    ended: list[str] = []

    async def slow(*task: Any) -> Any:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("given up")
            raise

    async def given_up() -> None:
        waiting = asyncio.create_task(remote(work, slow).enhance(*TASK))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)

    asyncio.run(given_up())
    assert ended == ["given up"]


def test_where_others_serve_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port may be open to all, and to end Serve would end theirs."""
    theirs = SimpleNamespace(status=lambda: SimpleNamespace(proxies={"node": "HEALTHY"}, applications={}))
    fake = SimpleNamespace(serve=theirs)
    for name, module in (
        ("ray", fake),
        ("ray.serve", theirs),
        ("ray.serve.exceptions", SimpleNamespace(RayServeException=LostError)),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("undistill.serve.ray.import_ray", lambda _: (fake, "10.0.0.1:6379"))
    monkeypatch.setattr("undistill.serve.ray.cluster", lambda *_, **__: nullcontext())
    with pytest.raises(UsageError, match="Ray Serve runs on this cluster already"):
        serve_on_ray(lambda _: [], 1, Limits(), ("127.0.0.1", 0), None, None, None, lambda: None, quiet=True)


def test_a_device_that_no_replica_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undistill.serve.ray.import_ray", lambda _: (None, "local"))
    pytest.importorskip("ray.serve")
    with pytest.raises(UsageError, match="--device cuda:1: with --engine ray take cpu or cuda"):
        serve_on_ray(lambda _: [], 1, Limits(), ("127.0.0.1", 0), None, "cuda:1", None, lambda: None, quiet=True)


def test_the_second_signal_is_no_longer_ours() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        ended = _signalled()
        signal.raise_signal(signal.SIGTERM)
        assert ended.is_set()
        assert signal.getsignal(signal.SIGINT) == before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_end_waits_for_what_was_taken() -> None:
    said = [(2, 0), (1, 1), (0, 1)]

    def close() -> Any:
        return SimpleNamespace(result=lambda timeout_s: said.pop(0))

    handle = SimpleNamespace(close=SimpleNamespace(remote=close))
    assert _closed(handle, 30) == 1
    said += [(3, 0)]
    assert _closed(handle, 0) == 3


@pytest.mark.e2e
@pytest.mark.xdist_group("ray")
def test_killed_replicas_lose_no_request() -> None:
    pytest.importorskip("ray.serve", reason="needs Ray Serve: pip install 'undistill[serve-ray]'")
    bodies = [picture((200, 220), seed=number) for number in range(8)]
    with service(["--engine", "ray", "--replicas", "2", "--head", "tiny-best", "--backend", "torch"]) as (url, _):
        (head,) = httpx2.get(f"{url}/v1/heads").json()["heads"]
        made_with = {"head": head["name"], "weights": head["hash"]}
        client = Client(url)

        def ask(number: int) -> bytes:
            return client.enhance_bytes(bodies[number % len(bodies)], made_with).data

        whole = [ask(number) for number in range(len(bodies))]
        assert whole[0] != bodies[0]
        for name in ("Enhancing", "Ingress"):
            with ThreadPoolExecutor(4) as pool:
                for number, answer in enumerate(pool.map(ask, range(60))):
                    assert answer == whole[number % len(bodies)]
                    if number == 10:
                        kill_one(f"ray::ServeReplica:undistill:{name}")

        def once(number: int) -> httpx2.Response:
            return httpx2.post(f"{url}/v1/enhance", content=bodies[number], headers={"Content-Type": "image/png"})

        plain = [once(number).content for number in range(len(bodies))]
        pool = ThreadPoolExecutor(len(bodies))
        under_way = [pool.submit(once, number) for number in range(len(bodies))]
        while sum(future.done() for future in under_way) < 2:
            time.sleep(0.01)
    answers = [future.result() for future in under_way]  # after SIGTERM, and its end
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert all(answer.content == plain[n] for n, answer in enumerate(answers) if answer.status_code == 200)
    pool.shutdown()
