import errno
import os
from collections.abc import Iterator
from multiprocessing import Pipe

import pytest
import torch

from undistill.base.engines import local


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
