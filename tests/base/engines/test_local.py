import errno
import os
import threading
import time
from collections.abc import Iterator
from multiprocessing import Pipe

import pytest
import torch

from undistill.base.engines import local


def tells_its_thread(task: int, tool: object) -> Iterator[tuple[int, bool, int]]:
    time.sleep(0.002 * (task % 3))
    for _ in range(2):
        yield task, threading.current_thread() is threading.main_thread(), torch.get_num_threads()


def test_threads_take_one_of_torchs_each_and_what_is_alone_takes_all() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = local.in_threads(lambda task: task in (4, 5, 19))
        told = list(engine(range(20), object, tells_its_thread))
        assert told == [(n, True, 2) if n in (4, 5, 19) else (n, False, 1) for n in range(20) for _ in range(2)]
        assert list(engine([7], object, tells_its_thread)) == [(7, True, 2)] * 2  # it has nobody to share with
        assert list(engine([], object, tells_its_thread)) == []
    finally:
        torch.set_num_threads(before)


def fills_the_disk(task: str, tool: object) -> Iterator[None]:
    yield None
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), task)


def test_a_workers_full_disk_reaches_us_with_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "with_parent", lambda end: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    ours, theirs = Pipe()
    ours.send("shard.parquet")
    local._run_worker(theirs, object, fills_the_disk)
    assert ours.recv() is None
    error = ours.recv()
    assert isinstance(error, OSError)
    assert (error.errno, error.filename) == (errno.ENOSPC, "shard.parquet")
