"""How a service of `undistill serve` does under load: `python -m research.load --url http://127.0.0.1:8000`.

Loads of 1, 2 and 4 times its capacity, each for so many seconds: throughput, and p50 and p99 of what was accepted; then
broken bodies. Every picture carries its number in its pixels, so that an answer which is another's is found. Only
addresses of this machine are asked, and all of it is bounded in time.
"""

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np
from PIL import Image

from research.faults.mutation import mutated
from undistill.images import Pixels
from undistill.serve.guard import is_loopback

BITS, STRIP = 12, 8
"""A picture's number: so many bars of black or white along its top, px high."""


@dataclass
class Row:
    """What came of a load.

    Args:
        asked: clients at a time, in multiples of those that keep the service busy.
        answered: pictures a second.
        p50, p99: seconds, of those that were accepted.
        refused: 503.
        failed: anything else; mixed: answers that were another request's.
    """

    asked: int
    answered: float
    p50: float
    p99: float
    accepted: int
    refused: int
    failed: int
    mixed: int


def numbered(pixels: Pixels, number: int) -> bytes:
    """A PNG with its number in the pixels of its top."""
    marked = pixels.copy()
    for bit in range(BITS):
        start, stop = (pixels.shape[1] * place // BITS for place in (bit, bit + 1))
        marked[:STRIP, start:stop] = 255 * (number >> bit & 1)
    buffer = BytesIO()
    Image.fromarray(marked).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def number_in(data: bytes) -> int:
    """The number that a picture carries."""
    light = np.asarray(Image.open(BytesIO(data)).convert("L"))[:STRIP]
    edges = [light.shape[1] * place // BITS for place in range(BITS + 1)]
    return sum(int(light[:, edges[bit] : edges[bit + 1]].mean() > 127) << bit for bit in range(BITS))


def under_load(
    ask: Callable[[bytes], httpx2.Response], bodies: list[bytes], clients: int, seconds: float, times: int
) -> Row:
    """So many clients, each of which asks again as soon as it is answered."""
    until, lock = time.monotonic() + seconds, threading.Lock()
    took: list[float] = []
    counts: Counter[str] = Counter()

    def client(first: int) -> None:
        number = first
        while number == first or time.monotonic() < until:
            body, begun = number % len(bodies), time.monotonic()
            try:
                reply = ask(bodies[body])
            except httpx2.TransportError:
                kind = "failed"
            else:
                refused = reply.status_code == 503
                kind = "refused" if refused else "failed" if reply.status_code != 200 else "accepted"
                if kind == "accepted" and number_in(reply.content) != body:
                    kind = "mixed"
                if refused:
                    time.sleep(0.05)
            with lock:
                counts[kind] += 1
                if kind == "accepted":
                    took.append(time.monotonic() - begun)
            number += clients

    begun = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    rate = len(took) / (time.monotonic() - begun)
    p50, p99 = (float(np.quantile(took, share)) if took else float("nan") for share in (0.5, 0.99))
    return Row(times, rate, p50, p99, counts["accepted"], counts["refused"], counts["failed"], counts["mixed"])


def broken(ask: Callable[[bytes], httpx2.Response], bodies: list[bytes], count: int) -> Counter[int]:
    """How often each status was the answer to a body with faults."""
    random = np.random.default_rng(0)
    statuses: Counter[int] = Counter()
    for _ in range(count):
        body, other = (bodies[int(place)] for place in random.integers(len(bodies), size=2))
        statuses[ask(mutated(body, other, random)).status_code] += 1
    return statuses


def memory(pid: int) -> float:
    """MiB that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--head", default="flux1")
    parser.add_argument("--size", type=int, default=512, help="of the pictures, px")
    parser.add_argument("--seconds", type=float, default=60, help="of each load")
    parser.add_argument("--clients", type=int, default=4, help="that keep the service busy: 1x")
    parser.add_argument("--broken", type=int, default=0, help="bodies with faults")
    parser.add_argument("--pid", type=int, help="of the service, for its memory")
    asked = parser.parse_args()
    if not is_loopback(urlsplit(asked.url).hostname or ""):
        parser.error("--url is to be an address of this machine")
    samples = sorted((Path(__file__).parents[1] / "src" / "undistill" / "samples").glob("*.webp"))
    portraits = [np.asarray(Image.open(path).convert("RGB").resize((asked.size, asked.size))) for path in samples]
    bodies = [numbered(portraits[number % len(portraits)], number) for number in range(32)]
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
    with httpx2.Client(base_url=asked.url, timeout=120, limits=limits) as client:

        def ask(body: bytes) -> httpx2.Response:
            return client.post(
                "/v1/enhance", params={"head": asked.head}, content=body, headers={"Content-Type": "image/png"}
            )

        ask(bodies[0])
        for times in (1, 2, 4):
            row = under_load(ask, bodies, asked.clients * times, asked.seconds, times)
            print(json.dumps(asdict(row)), f"{memory(asked.pid):.0f} MiB" if asked.pid else "", flush=True)
        if asked.broken:
            print(json.dumps(dict(broken(ask, bodies, asked.broken))), ask(bodies[0]).status_code)


if __name__ == "__main__":
    main()
