from pathlib import Path

import pytest

from undistill.base.errors import UsageError
from undistill.training.loop import Log

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
