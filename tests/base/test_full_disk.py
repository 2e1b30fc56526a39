"""What a full disk does to each kind of file: one error that says so and names the file, and what was there stays."""

import errno
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from undistill.base.errors import Failure
from undistill.base.files import replacing
from undistill.base.record import write
from undistill.dataset.shard import PairRow
from undistill.dataset.write import write_shard
from undistill.heads import GridHead
from undistill.images import write_grid
from undistill.metrics.results import write_json
from undistill.pairs.create import Timing, _log
from undistill.report import write_html
from undistill.training import checkpoint
from undistill.training import run as training
from undistill.training.loop import Log

resource = pytest.importorskip("resource", reason="Windows has no limit of file sizes")

LARGE = torch.from_numpy(np.random.default_rng(0).random((3, 128, 128), np.float32))


@contextmanager
def full(after: int = 4096) -> Iterator[None]:
    """Files can't grow beyond so many bytes: as on a full disk, but for the number of the error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def shard(path: Path) -> None:
    image = LARGE.numpy().tobytes()
    row = PairRow("0", "A portrait", "Ada", 0, image, image)
    write_shard(path, [row], "spec")


PARTS = {"versions": {"undistill": "0"}, "settings": {"date": "today"}}
WRITERS: dict[str, Callable[[Path], object]] = {
    "last.safetensors": lambda path: checkpoint.save(path, {"x": LARGE}),
    "model.safetensors": lambda path: GridHead().save_pretrained(path.parent),
    "shard.parquet": shard,
    "results.json": lambda path: write_json({"rows": LARGE.tolist()}, path),
    "page.html": lambda path: write_html("page.html", path, title="x" * 10_000, **PARTS),
    "image.png": lambda path: write(path, LARGE.numpy().tobytes(), {}),
    "grid.png": lambda path: write_grid([LARGE[None]], path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"before")
    with full(), pytest.raises(OSError, match=r"File too large") as caught:
        WRITERS[name](path)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == [name]
    WRITERS[name](path)
    assert path.read_bytes() != b"before"


def add_figures(folder: Path) -> None:
    log = Log(folder, ("step", "loss"), 0)
    with full(0):
        log.write(1, {"loss": 0.5})


def add_times(folder: Path) -> None:
    with _log(folder / "timings.csv") as log, full(0):
        log(Timing("shard-000000.parquet", "0", 1, 0.1, 0.2))


def export_head(folder: Path) -> None:
    (folder / "data.json").write_text("{}")
    with full(0):
        training._export(MagicMock(), MagicMock(keep="best"), folder, 2, 64)


@pytest.mark.parametrize(
    ("grow", "name"),
    [(add_figures, "metrics.csv"), (add_times, "timings.csv"), (export_head, ".head.part/metrics.json")],
)
def test_files_that_grow_are_named(
    grow: Callable[[Path], None], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "restore", lambda *_: {"step": 1, "best": 0.5})
    with pytest.raises(OSError, match="File too large") as caught:
        grow(tmp_path)
    assert caught.value.filename == str(tmp_path / name)


def test_what_is_not_about_writing_keeps_its_words(tmp_path: Path) -> None:
    for error in (
        Failure("the weights of x can't be read: No such file or directory (os error 2)"),
        SafetensorError("No such file or directory (os error 2)"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ):
        with pytest.raises(type(error)) as caught, replacing(tmp_path / "file"):
            raise error
        assert caught.value is error
        assert getattr(error, "filename", None) is None
