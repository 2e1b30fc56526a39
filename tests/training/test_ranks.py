import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import yaml
from lightning_fabric import Fabric

from tests.training.ranked import ALIKE, recipe
from tests.training.test_run import settings
from undistill.base.errors import UsageError
from undistill.dataset.samples import ImageFolders
from undistill.dataset.shard import Pairs
from undistill.training.ranks import rank_batch
from undistill.training.recipe import read_recipe
from undistill.training.run import train

Folders = Callable[..., Path]


def torchrun(*arguments: object, ranks: int = 2) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = ["-m", "torch.distributed.run", "--nproc-per-node", ranks, "--master-addr", "127.0.0.1"]
    return [sys.executable, *map(str, (*start, "--master-port", port, *arguments))]


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.e2e
def test_two_processes_do_what_one_does_and_save_once_when_interrupted(
    pairs_folder: Folders, image_folder: Folders, tmp_path: Path
) -> None:
    source = Pairs(pairs_folder("pairs", 24))
    (image_folder("student", 40) / "000.png").write_bytes(b"no picture")
    image_folder("teacher", 40)
    student, teacher, run = image_folder("whole-student", 12), image_folder("whole-teacher", 12), tmp_path / "run"
    changes = {"steps": 500, "data": {"crop": 64, "train": "all", "val": "0.5:1"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings("unpaired", **changes)))
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(settings("paired", steps=5000, save_every=5000)))
    command = torchrun("-m", "tests.training.ranked", tmp_path)
    with (tmp_path / "errors").open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as job:
        end = time.monotonic() + 240
        while not (run / "metrics.csv").exists() or "\n4," not in (run / "metrics.csv").read_text():
            assert time.monotonic() < end
            assert job.poll() is None, (tmp_path / "errors").read_text()
            time.sleep(0.05)
        os.kill(job.pid, signal.SIGTERM)
    errors = (tmp_path / "errors").read_text()

    said = [line for line in errors.splitlines() if line.startswith("undistill: ")]
    assert re.fullmatch(r"undistill: .*000\.png .*", min(said, key=len)), errors
    assert len(said) <= 2
    assert all("000.png" in line or "another process ended" in line for line in said)
    assert [(tmp_path / f"ended-{rank}").read_text() for rank in (0, 1)] == ["1", "1"]

    for name in ALIKE:
        train(recipe(name), source, tmp_path / "one" / name, device="cpu")
        one, two = rows(tmp_path / "one" / name), rows(tmp_path / "two" / name)
        assert len(one) == len(two) == 3
        for a, b in zip(one, two, strict=True):
            assert b == pytest.approx(a, rel=1e-5, abs=1e-5, nan_ok=True), name
    train(recipe("paired"), source, tmp_path / "resumed", device="cpu")
    assert rows(tmp_path / "resumed")[-1] == pytest.approx(rows(tmp_path / "one" / "paired")[-1], abs=1e-5)

    (stopped,) = map(int, re.findall(r"stopped at step (\d+); the same command goes on from there", errors))
    long, images = read_recipe(tmp_path / "long.yaml"), ImageFolders([student], [teacher])
    assert train(long, images, run, max_steps=stopped + 2, device="cpu").step == stopped + 2
    assert stopped >= 4
    assert len({row["step"] for row in rows(run)}) == len(rows(run))


@pytest.mark.parametrize(
    ("batch", "message"), [(4, r"a batch of 4 can't be shared by 3 processes: .* batch=6"), (6, None)]
)
def test_a_batch_is_shared_evenly(batch: int, message: str | None) -> None:
    fabric = cast(Fabric, SimpleNamespace(world_size=3))
    if message is None:
        assert rank_batch(fabric, batch) == 2
    else:
        with pytest.raises(UsageError, match=message):
            rank_batch(fabric, batch)
