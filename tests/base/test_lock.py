import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from undistill.base.errors import UsageError
from undistill.base.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from undistill.base.lock import locked
with locked(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_of_the_first_and_takes_over_when_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        named = rf"in {folder} \(process {first.pid}, since \d" if sys.platform == "linux" else f"in {folder}"
        with pytest.raises(UsageError, match=f"another undistill is at work {named}"), locked(folder):
            pass
        os.kill(first.pid, signal.SIGKILL)
    with locked(folder):
        assert list(folder.iterdir()) == []


def test_a_folder_goes_again_where_nothing_came_into_it(tmp_path: Path) -> None:
    new = tmp_path / "new"
    with locked(new):
        assert new.is_dir()
    assert not new.exists()
    with locked(new):
        (new / "file").touch()
    assert (new / "file").exists()
    (new / "file").unlink()
    with locked(new):
        pass
    assert new.exists()  # it was there before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="out is a file; -o takes a folder"), locked(tmp_path / "out"):
        pass
