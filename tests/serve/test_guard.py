"""Who may ask, how often, and what of it is told to nobody."""

import logging

import pytest

from tests.serve.conftest import Serving, picture, runs_instead
from undistill.images import Pixels
from undistill.serve.guard import Rate, is_loopback
from undistill.serve.work import Work

KEYS = ("first-key-of-sixteen", "second-key-of-sixteen")


def test_a_key_is_needed_where_there_are_keys(serving: Serving) -> None:
    client = serving(keys=KEYS, local=False)
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEYS[0]}, {"Authorization": "Basic x"}):
        reply = client.get("/v1/heads", headers=header)
        assert (reply.status_code, reply.json()["type"]) == (401, "urn:undistill:key")
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    for key in KEYS:
        assert client.get("/v1/heads", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert client.get("/metrics", headers={"Authorization": f"bearer {key}"}).status_code == 200
    assert client.get("/metrics").status_code == 401
    assert client.get("/healthz").status_code == client.get("/").status_code == 200


def test_pages_of_other_sites_may_not_ask_unless_named(serving: Serving) -> None:
    client = serving()
    image = {"image": picture()}
    assert client.post("/v1/enhance", files=image, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/v1/enhance", files=image, headers={"Origin": "null"}).status_code == 403
    assert client.post("/v1/enhance", files=image, headers={"Origin": "http://127.0.0.1"}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "[", ""):
        assert client.get("/", headers={"Host": host}).status_code == 403
    for host in ("localhost:8000", "[::1]:8000", "127.0.0.1"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    assert "Access-Control-Allow-Origin" not in client.get("/v1/heads").headers
    named = serving(origins=("https://mine.example",))
    reply = named.get("/v1/heads", headers={"Origin": "https://mine.example"})
    assert reply.headers["Access-Control-Allow-Origin"] == "https://mine.example"
    assert "Undistill-Hash" in reply.headers["Access-Control-Expose-Headers"]


def test_every_answer_has_the_headers_that_keep_a_page_safe(serving: Serving) -> None:
    client = serving()
    for path in ("/", "/page.js", "/v1/heads", "/nothing", "/v1/enhance"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] in ("no-store", "no-cache")


def test_a_key_has_a_rate_of_its_own(serving: Serving) -> None:
    client = serving(keys=KEYS, per_minute=2)
    statuses = [client.get("/v1/heads", headers={"Authorization": f"Bearer {KEYS[0]}"}) for _ in range(3)]
    assert [reply.status_code for reply in statuses] == [200, 200, 429]
    assert 1 <= int(statuses[2].headers["Retry-After"]) <= 30
    assert client.get("/v1/heads", headers={"Authorization": f"Bearer {KEYS[1]}"}).status_code == 200


def test_a_rate_fills_again_and_forgets() -> None:
    rate = Rate(60)
    assert [rate.take("a", 0.0) for _ in range(61)] == [0.0] * 60 + [1.0]
    assert rate.take("a", 0.5) == pytest.approx(0.5)
    assert rate.take("a", 1.1) == 0.0
    for number in range(20_000):
        rate.take(str(number), 2.0)
    assert len(rate._left) <= 10_000


def test_log_lines_hold_no_words_of_requests_and_a_failure_is_500(
    serving: Serving, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(pixels: Pixels, strength: float) -> Pixels:
        raise RuntimeError("secret words")

    runs_instead(work, broken)
    client = serving(keys=KEYS)
    with caplog.at_level(logging.INFO, "undistill.serve"):
        key = {"Authorization": f"Bearer {KEYS[0]}"}
        reply = client.post("/v1/enhance?head=tiny-best", files={"image": picture()}, headers=key)
        client.get("/secret/words?secret=words", headers=key)
    assert (reply.status_code, reply.json()["type"]) == (500, "urn:undistill:failed")
    assert "secret" not in reply.text + caplog.text
    assert KEYS[0] not in caplog.text
    assert "RuntimeError at" in caplog.text
    assert "POST /v1/enhance 500" in caplog.text


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9")))
    assert not any(map(is_loopback, ("0.0.0.0", "", "::", "192.168.0.2", "localhost.evil.example")))
