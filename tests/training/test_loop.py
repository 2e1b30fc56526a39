import multiprocessing
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.training.test_run import recipe
from undistill.base.errors import UsageError
from undistill.training.loop import Log, load_batches, start

COLUMNS = ("step", "epoch", "loss")


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,epoch,loss\n2,1,0.5\n4,2,0.4\n6,3,0.3\n")
    Log(tmp_path, COLUMNS, 4).close()
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,epoch,loss", "2,1,0.5", "4,2,0.4"]


@pytest.mark.parametrize(
    "edited",
    [
        b"\xff\xfes\x00t\x00",
        b"step,epoch,loss\ntwo,1,0.5\n",
        b"step,epoch,loss\n2,1,0.5,more\n",
        b"step,epoch,loss,mine\n2,1,0.5,good\n",
        b"step;epoch;loss\n2;1;0,5\n",
        b"",
    ],
)
def test_an_edited_table_is_one_line_and_stays(edited: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(edited)
    if not edited:  # as after a power cut: nothing is lost
        Log(tmp_path, COLUMNS, 4).close()
        return
    with pytest.raises(UsageError, match=r"metrics\.csv is not as the run wrote it \(.*\): put it back") as error:
        Log(tmp_path, COLUMNS, 4)
    assert "\n" not in str(error.value)
    assert (tmp_path / "metrics.csv").read_bytes() == edited


def test_how_many_loaders_is_the_recipes_affair() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        start(recipe("paired"), "cpu")
        DataLoader(range(2), num_workers=1000)  # type: ignore[arg-type]
    assert not [warning for warning in said if "worker processes" in str(warning.message)]


@pytest.fixture
def _spawning() -> Iterator[None]:
    """As in the processes of a sweep."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.usefixtures("_spawning")
def test_loaders_are_forked_wherever_they_are_asked_for() -> None:
    class Unpicklable(Dataset[tuple[Tensor, ...]]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, k: int) -> tuple[Tensor, ...]:
            return (torch.tensor([float(k)]),)

    ((values,),) = load_batches(start(recipe("paired"), "cpu"), Unpicklable(), 2, workers=1)
    assert values.tolist() == [[0], [1]]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS doesn't say who sent a signal")
def test_loaders_leave_a_groups_sigterm_to_the_loop() -> None:
    before = multiprocessing.active_children()
    rows = torch.utils.data.TensorDataset(torch.arange(20.0)[:, None])
    data = load_batches(start(recipe("paired"), "cpu"), rows, 1, workers=1)
    batches = iter(data)
    next(batches)
    (loader,) = (child for child in multiprocessing.active_children() if child not in before)
    for name in ("TERM", "INT"):  # from neither it nor us, as systemd's
        subprocess.run(["kill", f"-{name}", str(loader.pid)], check=True)
    assert len(list(batches)) == 19
    assert loader.is_alive()
    loader.terminate()
    loader.join(10)
    assert loader.exitcode == 0
