"""In front of everything: who may ask, how often, and what is said of it in the log and in each answer's headers."""

import hmac
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from math import ceil
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from undistill.serve.meters import Meters
from undistill.serve.problems import Problem

log = logging.getLogger("undistill.serve")

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_GUARDED = ("/v1/", "/metrics")
_MOST_CALLERS = 10_000


def log_to_stderr(quiet: bool) -> None:
    """A line for each request to standard error; where it is to be quiet, errors alone."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.ERROR if quiet else logging.INFO)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach a server there."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass
class Rate:
    """So many requests a minute, with a burst of as many, for each who asks.

    Args:
        per_minute: None: any number.
    """

    per_minute: int | None
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, who: str, now: float) -> float:
        """Count a request; seconds until the next is free, if this one is not."""
        if self.per_minute is None:
            return 0.0
        if len(self._left) >= _MOST_CALLERS and who not in self._left:
            self._left.pop(next(iter(self._left)))
        tokens, then = self._left.pop(who, (float(self.per_minute), now))
        tokens = min(float(self.per_minute), tokens + (now - then) * self.per_minute / 60)
        taken = tokens >= 1
        self._left[who] = (tokens - taken, now)  # at the end: whoever has not asked for longest goes first
        return 0.0 if taken else (1 - tokens) * 60 / self.per_minute


def _parts(url: str) -> tuple[str, str]:
    """Name, and name with port; nothing where it is no URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.hostname or "", parts.netloc


class Guard:
    """ASGI middleware.

    Args:
        keys: one of them is needed, unless there are none.
        local: answer only to this machine's own names, so that no other site can borrow a browser here.
        origins: of other sites whose pages may ask.
        per_minute: requests of each key, or without keys of each address.
        paths: that may stand in the log.
    """

    def __init__(
        self,
        app: ASGIApp,
        meters: Meters,
        keys: tuple[str, ...],
        local: bool,
        origins: tuple[str, ...],
        per_minute: int | None,
        paths: Callable[[], set[str]],
    ) -> None:
        self.app = app
        self.meters = meters
        self._keys = [sha256(key.encode()).digest() for key in keys]
        self._local = local
        self._origins = origins
        self._rate = Rate(per_minute)
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, receive, answer)
        except Problem as problem:
            self.meters.refusals.labels(problem.reason).inc()
            await problem.response()(scope, receive, answer)
        except ClientDisconnect:
            self.meters.gone.inc()
        except Exception as error:
            # Neither the error's words nor the values around it: they may be somebody's.
            places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            log.error("%s at %s", type(error).__name__, " < ".join(reversed(places[-4:])))  # noqa: TRY400
            self.meters.refusals.labels("failed").inc()
            if not status:
                failed = Problem("failed", "The service failed at this request: its log says where.")
                await failed.response()(scope, receive, answer)
        finally:
            path = scope["path"] if scope["path"] in self._paths() else "other"
            self.meters.requests.labels(path, status or "gone").inc()
            took = 1000 * (time.perf_counter() - begun)
            log.info("%s %s %s %.0f ms", scope["method"], path, status or "gone", took)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._local and not is_loopback(_parts(f"//{host}")[0]):
            raise Problem(
                "origin", "Without a key this service answers to its own machine's names alone: use 127.0.0.1."
            )
        if origin is not None and origin not in self._origins and _parts(origin)[1] != host:
            raise Problem("origin", "Pages of other sites may not ask: name this one with --cors.")
        if not scope["path"].startswith(_GUARDED):
            return
        who = scope["client"][0] if scope.get("client") else ""
        if self._keys:
            word, _, given = headers.get("authorization", "").partition(" ")
            digest = sha256(given.strip().encode()).digest()
            # All of them are compared, so that time doesn't tell which is near.
            known = [hmac.compare_digest(digest, key) for key in self._keys]
            if word.lower() != "bearer" or not any(known):
                raise Problem(
                    "key", "A key is needed: send the header Authorization: Bearer KEY.", www_authenticate="Bearer"
                )
            who = digest.hex()
        if wait := self._rate.take(who, time.monotonic()):
            retry = str(ceil(wait))
            raise Problem("rate", f"Too many requests of this key: ask again in {retry} s.", retry_after=retry)
