import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import httpx2
import numpy as np
import pytest
from research.load import broken, flatness, kill_one, number_in, numbered, under_load, watched

from tests.serve.conftest import picture

PIXELS = np.random.default_rng(0).integers(60, 200, (64, 64, 3), dtype=np.uint8)


def test_a_number_survives_in_pixels() -> None:
    assert [number_in(numbered(PIXELS, number)) for number in range(0, 4096, 97)] == list(range(0, 4096, 97))


def test_a_mixed_up_answer_and_a_refusal_are_counted() -> None:
    bodies = [numbered(PIXELS, number) for number in range(4)]
    answers = {bodies[0]: bodies[0], bodies[1]: bodies[2], bodies[2]: bodies[2]}

    def ask(body: bytes) -> httpx2.Response:
        return httpx2.Response(200, content=answers[body]) if body in answers else httpx2.Response(503)

    row = under_load(ask, bodies, clients=4, seconds=0.2, times=1)
    assert row.failed == 0
    assert min(row.accepted, row.mixed, row.refused) > 0
    assert row.p99 >= row.p50 > 0


def test_memory_is_flat_or_not() -> None:
    told = flatness([1.0, 2.0, *[100.0] * 10, 103.0, *[101.0] * 7])
    assert told == {"after": 100.0, "most": 103.0, "growth": pytest.approx(0.03)}
    with watched(os.getpid()) as held:
        time.sleep(0.3)
    assert len(held) >= 2
    assert min(held) > 10


def test_a_process_is_killed_by_its_title() -> None:
    with subprocess.Popen(["ray::victim of a test", "60"], executable="/bin/sleep") as victim:
        title = Path(f"/proc/{victim.pid}/cmdline")
        while not title.read_bytes():  # Popen is back before the kernel has set it
            time.sleep(0.01)
        assert kill_one("ray::victim of") == victim.pid
        assert victim.wait(10) == -9
    with pytest.raises(SystemExit, match="no process is called ray::victim"):
        kill_one("ray::victim of")


def test_bodies_are_broken_each_in_its_way() -> None:
    seen: set[bytes] = set()

    def ask(body: bytes) -> httpx2.Response:
        seen.add(body)
        return httpx2.Response(422)

    assert broken(ask, [picture(), picture(seed=1)], 20) == Counter({422: 20})
    assert len(seen) > 15
