"""Batches of files, on the CPU: what goes together is a matter of the list alone."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from undistill.base.engines.local import in_processes, in_threads
from undistill.base.errors import UsageError
from undistill.base.record import RECORD
from undistill.enhance import Enhancer, batches
from undistill.enhance.batches import by_size
from undistill.enhance.change import Change
from undistill.enhance.files import Outcome, enhance_files, runs_alone
from undistill.enhance.jobs import list_jobs

HEAD = {"head": "minus", "weights": "0"}


class Minus:
    """Stands for an Enhancer whose rounding hangs on the size of the batch, and the place in it."""

    device = torch.device("cpu")
    head = SimpleNamespace(trained_at=None)

    def __init__(self) -> None:
        self.batches: list[int] = []
        self._lock = Lock()

    def __call__(self, images: Any, strength: float) -> Any:
        with self._lock:
            self.batches.append(len(images))
        places = np.arange(len(images), dtype=np.uint8)[:, None, None, None]
        return 200 - images // 2 - len(images) - places


def files(folder: Path) -> Path:
    """Seven of one size and three of another, by turns; one is cut off, and one lies on its side."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(10):
        side = 20 if number % 3 == 2 else 40
        pixels = random.integers(0, 256, (24, side, 3), dtype=np.uint8)
        exif = Image.Exif()
        if number == 4:
            pixels, exif[0x0112] = np.swapaxes(pixels, 0, 1), 6
        Image.fromarray(pixels).save(folder / f"{number}.png", exif=exif)
    (folder / "6.png").write_bytes((folder / "6.png").read_bytes()[:-300])
    return folder


def run(folder: Path, out: Path, minus: Any, engine: Any = None, together: bool = True, **change: Any) -> Outcome:
    how = {} if engine is None else {"engine": engine}
    make: Callable[[], Enhancer] = lambda: minus  # noqa: E731
    return enhance_files(list_jobs([folder], out), out, make, HEAD, Change(**change), together=together, **how)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PIXELS", 4 * 24 * 40)


def test_sizes_go_together_in_the_order_of_the_list() -> None:
    sizes = {"a": (40, 24), "b": (20, 24), "c": (40, 24), "d": None, "e": (400, 24), "f": (40, 24), "g": (40, 24)}
    made = by_size([*sizes, "h", "i"], lambda item: sizes.get(item, (40, 24)))
    assert made == [["a", "c", "f", "g"], ["b"], ["d"], ["e"], ["h", "i"]]


@pytest.mark.parametrize("engine", [None, in_threads(runs_alone, 3)])
def test_a_resumed_run_ends_with_the_uninterrupted_bytes(engine: Any, tmp_path: Path) -> None:
    folder, minus = files(tmp_path / "in"), Minus()
    outcome = run(folder, tmp_path / "out", minus, engine)
    assert (outcome.enhanced, len(outcome.failures)) == (9, 1)
    assert sorted(minus.batches) == [1, 2, 3, 3]  # 0, 1 and 3; 2, 5 and 8; 4; 7 and 9
    whole = contents(tmp_path / "out")
    for name in ("1.png", "8.png"):
        (tmp_path / "out" / name).unlink()
    again = run(folder, tmp_path / "out", minus, engine)
    assert again.enhanced + again.skipped == 9
    assert contents(tmp_path / "out") == whole
    by_itself = run(folder, tmp_path / "alone", Minus(), engine, together=False)
    assert by_itself.enhanced == 9
    for name in whole.keys() - {RECORD}:
        one, other = (np.asarray(Image.open(tmp_path / out / name)).astype(int) for out in ("out", "alone"))
        assert np.abs(one - other).max() <= 5  # of Minus, by its batch and place


def test_what_is_done_is_not_run(tmp_path: Path) -> None:
    folder, minus = files(tmp_path / "in"), Minus()
    (folder / "6.png").unlink()
    run(folder, tmp_path / "out", minus)
    minus.batches.clear()
    assert run(folder, tmp_path / "out", minus).skipped == 9
    assert not minus.batches


class Fails(Minus):
    error: Exception = RuntimeError("out of memory\nwith a long story")

    def __call__(self, images: Any, strength: float) -> Any:
        raise self.error


def test_a_failure_is_told_to_all_and_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = files(tmp_path / "in")
    (folder / "6.png").unlink()
    outcome = run(folder, tmp_path / "out", Fails())
    assert list(outcome.failures.values()) == ["failed: out of memory"] * 9
    monkeypatch.setattr(Fails, "error", UsageError("no such head"))
    with pytest.raises(UsageError, match="no such head"):
        run(folder, tmp_path / "other", Fails(), in_threads(runs_alone, 3))


def test_a_head_makes_of_a_batch_what_it_makes_of_each(tmp_path: Path) -> None:
    folder = files(tmp_path / "in")
    for out, together in (("batches", True), ("alone", False)):
        run(folder, tmp_path / out, Enhancer("flux1", "cpu"), together=together, strength=0.7)
    for number in (0, 1, 2, 3, 4, 5, 7, 8, 9):
        one, other = (np.asarray(Image.open(tmp_path / out / f"{number}.png")) for out in ("batches", "alone"))
        assert np.abs(one.astype(int) - other).max() <= 1


def test_workers_take_batches(tmp_path: Path) -> None:
    folder = files(tmp_path / "in")
    run(folder, tmp_path / "here", Minus())
    jobs = list_jobs([folder], tmp_path / "there")
    make: Any = Minus
    enhance_files(jobs, tmp_path / "there", make, HEAD, Change(), in_processes(2), together=True)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
