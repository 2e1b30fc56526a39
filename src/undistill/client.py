"""Ask a service of `undistill serve`."""

import json
import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from io import BytesIO
from threading import Event, Lock
from typing import Any, TypeVar

import httpx2
import numpy as np
from PIL import Image

from undistill.base.errors import Failure, UsageError, first_line
from undistill.base.settings import check_key
from undistill.enhance.bytes import Enhanced
from undistill.enhance.change import Change
from undistill.enhance.faces import FEATHER, Where
from undistill.enhance.provenance import Label
from undistill.images import Encoding, ImageError, Pixels, decode, encode, to_image, to_picture

Images = TypeVar("Images", Image.Image, Pixels)

_AGAIN = (429, 502, 503)
_PAUSE_S = 0.5


class Client:
    """A service, asked for one image at a time. Several threads may use it at once.

    Args:
        url: of the service, as http://127.0.0.1:8000.
        key: None: the first of the environment variable UNDISTILL_API_KEY, if it is set.
        patience: seconds for which an answer is asked for again where the service is full, ending or gone.
        timeout: seconds that one answer may take.

    Raises:
        UsageError: no such URL, or no such key.

    Example:
        client = undistill.Client("http://127.0.0.1:8000")
        client.enhance(Image.open("portrait.png")).save("enhanced.png")
    """

    def __init__(self, url: str, key: str | None = None, patience: float = 60.0, timeout: float = 120.0) -> None:
        try:
            known = re.match(r"https?://[^/]", url) and (httpx2.URL(url).port or 0) < 2**16
        except httpx2.InvalidURL:
            known = False
        if not known:
            raise UsageError(f"{url} is no address of a service: write it as http://127.0.0.1:8000")
        key = key or re.split(r"[,\s]+", os.environ.get("UNDISTILL_API_KEY", ""))[0]
        check_key(key)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = url
        self.patience = patience
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=httpx2.Timeout(timeout, connect=10.0))
        self._given_up = Event()
        self._noting = Lock()
        self._sockets: set[socket.socket] = set()

    def heads(self) -> list[dict[str, Any]]:
        """The heads that it has, each with its name and hash; the first is taken where none is named.

        Raises:
            UsageError: it wants a key, or is no service of undistill.
            Failure: it can't be reached.
        """
        try:
            heads: list[dict[str, Any]] = self._ask("GET", "/v1/heads").json()["heads"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self.url} is no service of undistill") from error
        return heads

    def enhance(
        self,
        image: Images,
        head: str | None = None,
        strength: float = 1.0,
        where: Where = "all",
        feather: float = FEATHER,
    ) -> Images:
        """The image as `Enhancer` gives it, of the same type.

        Args:
            image: a PIL image, or a numpy array (H, W, 3) of uint8.
            head: one of `heads`; None: the service's first.
            strength: 0 (the image as it is) to 1 (the head's image).
            where, feather: see `Enhancer`.

        Raises:
            ValueError: it is no such image.
            ImageError: the service can't use it, or it is larger than the service takes.
            UsageError, Failure: see `heads`.
        """
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
                raise ValueError(f"an array of shape {image.shape} and {image.dtype}: take (H, W, 3) of uint8")
            sent = to_picture(Image.fromarray(image))
        else:
            sent = to_picture(image)
        asked = {"strength": strength, "where": where, "feather": feather, "format": "png", "provenance": False}
        asked |= {"head": head} if head else {}
        reply = self._ask(
            "POST", "/v1/enhance", content=encode(sent, sent.pixels, Encoding("PNG", colour=True)), params=asked
        )
        pixels = decode(BytesIO(reply.content)).pixels
        return pixels if isinstance(image, np.ndarray) else to_image(sent, pixels)

    def enhance_bytes(
        self,
        data: bytes,
        head: Mapping[str, str],
        wanted: Change | None = None,
        how: Encoding | None = None,
        label: Label | None = None,
    ) -> Enhanced:
        """The file that the service makes of a file.

        Args:
            head: its name as "head", its hash as "weights", and what runs it as "backend" where that is not torch: no
                other may make it.
            wanted: what is done to pixels; None: all of them, by the head.
            how: how it is written.
            label: whether, and as what, it is marked; the head's name and hash in it are the service's to tell.

        Raises:
            ImageError, UsageError, Failure: see `enhance`.
        """
        wanted, how = wanted or Change(), how or Encoding()
        asked = {
            "head": head["head"],
            "format": (how.format or "same").lower(),
            "provenance": label is not None,
            "generated": label is not None and label.generated,
            **asdict(wanted),
            **{key: value for key, value in asdict(how).items() if key != "format"},
        }
        asked = {key: value for key, value in asked.items() if value is not None}
        reply = self._ask("POST", "/v1/enhance", content=data, params=asked)
        used = reply.headers.get("Undistill-Hash"), reply.headers.get("Undistill-Backend", "torch")
        if used != (head["weights"], head.get("backend", "torch")):
            raise UsageError(f"{self.url} has another {head['head']} than when this began: run the same command again")
        format = reply.headers["Content-Type"].removeprefix("image/").upper()
        strength = float(reply.headers["Undistill-Strength"])
        return Enhanced(reply.content, format, strength, json.loads(reply.headers["Undistill-Notes"]))

    def give_up(self) -> None:
        """From another thread: whoever waits for an answer, or to ask again, gets a Failure now."""
        self._given_up.set()
        with self._noting:
            for each in self._sockets:
                with suppress(OSError):  # it is closed
                    each.shutdown(socket.SHUT_RDWR)

    def _note(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the socket of a new connection: a thread that waits for it would not learn that it was closed."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._noting:
                self._sockets = {each for each in self._sockets if each.fileno() >= 0}
                self._sockets.add(info["return_value"].get_extra_info("socket"))
            if self._given_up.is_set():
                self.give_up()

    def _ask(self, method: str, path: str, **body: Any) -> httpx2.Response:
        """Asked again while the service is full, ending or gone, for as long as `patience` lasts."""
        until = time.monotonic() + self.patience
        headers = {"Content-Type": "application/octet-stream"} if "content" in body else {}
        while True:
            try:
                reply = self._http.request(method, path, headers=headers, extensions={"trace": self._note}, **body)
            except httpx2.TransportError as error:
                if time.monotonic() + _PAUSE_S > until or isinstance(error, httpx2.UnsupportedProtocol):
                    raise Failure(f"{self.url} can't be reached: {first_line(error)}") from error
                self._pause(_PAUSE_S)
                continue
            after = reply.headers.get("Retry-After", "")
            pause = float(after) if after.isdecimal() else _PAUSE_S
            # A 500 of the service itself says what is wrong; one of a proxy before it, that it has lost the service.
            own = reply.headers.get("Content-Type") == "application/problem+json"
            lost = reply.status_code == 500 and not own
            if not (lost or reply.status_code in _AGAIN) or time.monotonic() + pause > until:
                break
            self._pause(pause)
        if reply.is_success:
            return reply
        try:
            detail = str(reply.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"it answered {reply.status_code}"
        if reply.status_code in (400, 413, 415, 422, 504) or (own and reply.status_code == 500):
            # It is this image: another may fare better.
            raise ImageError(detail.removeprefix("The image ").removesuffix("."))
        raise (UsageError if reply.status_code in (401, 403, 404) else Failure)(f"{self.url}: {detail}")

    def _pause(self, seconds: float) -> None:
        if self._given_up.wait(seconds):
            raise Failure(f"{self.url} is not asked any more")


def enhance_remotely(
    data: bytes,
    client: Client,
    wanted: Change,
    how: Encoding,
    same_kind: bool,
    label: Label | None,
    mask: bytes | None,
    *,
    head: Mapping[str, str],
) -> Enhanced:
    """`enhance_bytes`, by a service; see `Client.enhance_bytes`."""
    assert mask is None
    return client.enhance_bytes(data, head, wanted, how, label)
