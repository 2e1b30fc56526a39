"""How a service of `undistill serve` does under load: `python -m research.load`, and it starts one.

Loads of 1, 2 and 4 times its capacity, each for so many seconds: throughput, and p50 and p99 of what was accepted. A
long one for its memory, and beside it what `undistill enhance` does on the same files. Then broken bodies. With
--replicas on Ray Serve, where replicas are killed under load. Every picture carries its number in its pixels, so that
an answer which is another's is found. Only addresses of this machine are asked, and all of it is bounded in time.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
from PIL import Image

from research.faults.mutation import mutated
from undistill.base.engines.local import in_threads
from undistill.base.errors import Failure
from undistill.base.files import SAMPLES
from undistill.client import Client
from undistill.enhance import Enhancer
from undistill.enhance.change import Change
from undistill.enhance.files import enhance_files, runs_alone
from undistill.enhance.jobs import list_jobs
from undistill.enhance.provenance import Label
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


def flatness(held: list[float]) -> dict[str, float]:
    """Of memory over time, MiB: after the first tenth, the most since, and how much more that is."""
    after = held[len(held) // 10 :]
    return {"after": after[0], "most": max(after), "growth": max(after) / after[0] - 1}


@contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """The memory of a process, five times a second."""
    held: list[float] = [memory(pid)]
    ended = threading.Event()

    def watch() -> None:
        with suppress(OSError, StopIteration):  # it has ended
            while not ended.wait(0.2):
                held.append(memory(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield held
    finally:
        ended.set()
        thread.join()


def kill_one(words: str, after: float = 0.0) -> int:
    """Kill -9 a process of this machine whose title begins so, after so many seconds; its id."""
    time.sleep(after)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(words.encode()):
                os.kill(pid := int(path.parent.name), signal.SIGKILL)
                return pid
    raise SystemExit(f"no process is called {words}")


@contextmanager
def service(more: list[str]) -> Iterator[tuple[str, int]]:
    """One of our own, on a port of this machine: its address and its process."""
    command = [sys.executable, "-m", "undistill", "serve", "--port", "0", "--queue", "8", *more]
    environment = {name: value for name, value in os.environ.items() if name != "UNDISTILL_API_KEY"}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://\S+(?=/ )", said)
        if found is None:
            log.seek(0)
            raise SystemExit(log.read().decode())
        try:
            yield found[0], process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
    if process.returncode:
        raise SystemExit(f"the service ended with {process.returncode}")


def by_enhance(bodies: list[bytes], head: dict[str, str], seconds: float) -> float:
    """Pictures a second of `undistill enhance`'s own work on a folder of them, once its head is loaded."""
    backend: Any = head["backend"]
    enhancer = Enhancer(head["name"], "cpu", backend=backend)
    enhancer(np.zeros((512, 512, 3), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        for number, body in enumerate(bodies):
            Path(folder, f"{number}.png").write_bytes(body)
        begun, done = time.monotonic(), 0
        while time.monotonic() < begun + seconds:
            out = Path(folder, f"out{done}")
            jobs = list_jobs([Path(folder, f"{number}.png") for number in range(len(bodies))], out)
            label = Label(head["name"], head["hash"])
            made_with = {"head": head["name"], "weights": head["hash"]}
            made = enhance_files(jobs, out, lambda: enhancer, made_with, Change(), in_threads(runs_alone), label=label)
            done += made.enhanced
        return done / (time.monotonic() - begun)


def numbered_portraits(size: int) -> list[bytes]:
    """32 of them, from the samples."""
    portraits = [
        np.asarray(Image.open(path).convert("RGB").resize((size, size))) for path in sorted(SAMPLES.glob("*.webp"))
    ]
    return [numbered(portraits[number % len(portraits)], number) for number in range(32)]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a service that runs; else one is started here, and its memory is watched")
    parser.add_argument("--head", action="append", metavar="HEAD@SIZE", help="and the pictures' size, px")
    parser.add_argument("--seconds", type=float, default=60, help="of each load; the long one at 4x takes ten times it")
    parser.add_argument("--clients", type=int, default=4, help="that keep the service busy: 1x")
    parser.add_argument("--broken", type=int, default=2000, help="bodies with faults")
    parser.add_argument("--replicas", type=int, help="on Ray Serve, with so many; replicas are killed under load")
    asked = parser.parse_args()
    if asked.url and not is_loopback(urlsplit(asked.url).hostname or ""):
        parser.error("--url is to be an address of this machine")
    heads = [text.split("@") for text in asked.head or ["flux1@512", "tiny-best@64"]]
    more = [word for head, _ in heads for word in ("--head", head)]
    if asked.replicas:
        more += ["--engine", "ray", "--replicas", str(asked.replicas)]
    with service(more) if not asked.url else nullcontext((asked.url, None)) as (url, pid):
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        with httpx2.Client(base_url=url, timeout=120, limits=limits) as client:
            known = {each["name"]: each for each in client.get("/v1/heads").json()["heads"]}
            for place, (head, size) in enumerate(heads):
                _tell_of(client, url, known[head], numbered_portraits(int(size)), asked, pid if place == 0 else None)


def _tell_of(
    client: httpx2.Client,
    url: str,
    head: dict[str, str],
    bodies: list[bytes],
    asked: argparse.Namespace,
    pid: int | None,
) -> None:
    def tell(**what: Any) -> None:
        print(json.dumps({"head": head["name"], "backend": head["backend"], **what}), flush=True)

    def ask(body: bytes) -> httpx2.Response:
        kind = {"Content-Type": "image/png"}
        return client.post("/v1/enhance", params={"head": head["name"]}, content=body, headers=kind)

    def by_client(body: bytes) -> httpx2.Response:
        """As `undistill enhance --server` asks: again, where there is no answer."""
        made_with = {"head": head["name"], "weights": head["hash"], "backend": head["backend"]}
        try:
            return httpx2.Response(200, content=patient.enhance_bytes(body, made_with).data)
        except Failure:
            return httpx2.Response(500)

    patient = Client(url)
    ask(bodies[0])
    for times in (1, 2, 4):
        tell(**asdict(under_load(ask, bodies, asked.clients * times, asked.seconds, times)))
    if asked.replicas:
        for name in ("Enhancing", "Ingress"):
            with ThreadPoolExecutor(1) as pool:
                kill = pool.submit(kill_one, f"ray::ServeReplica:undistill:{name}", asked.seconds / 2)
                row = under_load(by_client, bodies, asked.clients, asked.seconds, 1)
                tell(killed=name, process=kill.result(), **asdict(row))
    elif pid is not None:
        with watched(pid) as held:
            long = under_load(ask, bodies, asked.clients * 4, asked.seconds * 10, 4)
        tell(memory=flatness(held), **asdict(long))
        tell(by_enhance=by_enhance(bodies, head, asked.seconds))
    if asked.broken:
        tell(broken=dict(broken(ask, bodies, asked.broken)), then=ask(bodies[0]).status_code)


if __name__ == "__main__":
    main()
