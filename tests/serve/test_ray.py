"""The service on Ray Serve: without Ray what its replicas do, and with it a service whose replicas are killed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from research.load import kill_one, service

from tests.serve.conftest import Serving, picture
from undistill.base.engines.ray import TRIES
from undistill.client import Client
from undistill.enhance.bytes import Enhanced
from undistill.enhance.change import Change
from undistill.images import Encoding, ImageError
from undistill.serve.app import Limits, make_app
from undistill.serve.faces import FACES
from undistill.serve.ray import Enhancing, RemoteWork
from undistill.serve.work import Work


class LostError(Exception):
    pass


TASK = ("tiny-best", picture(), Change(), Encoding(), True, None)


def remote(work: Work, answer: Callable[[Any], Any]) -> RemoteWork:
    """Whose replicas answer so, in this process."""
    method = SimpleNamespace(remote=lambda *task: asyncio.ensure_future(answer(*task)))
    handle = SimpleNamespace(enhance=method, faces=method)
    return RemoteWork(handle, LostError, list(work.heads.values()), places=4, replicas=2)


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
