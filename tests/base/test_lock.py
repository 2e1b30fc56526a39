import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from undistill.base import lock
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
    folder, began = tmp_path / "out", time.time()
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with (
            pytest.raises(UsageError, match=f"another undistill is at work in {folder}.*: wait") as refused,
            locked(folder),
        ):
            pass
        known = re.search(r"\(process (\d+), since ([^)]*)\)", str(refused.value))
        if known is not None:  # on Linux, where the file system tells
            assert int(known[1]) == first.pid
            assert abs(datetime.fromisoformat(known[2]).astimezone().timestamp() - began) < 30
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


def test_a_folder_that_went_while_the_lock_was_waited_for_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As between two that begin at once, of which the first ends with nothing."""
    folder, take = tmp_path / "out", lock._locked_handle
    taken: list[int | None] = []

    def late(path: Path) -> int | None:
        handle = take(path)
        if not taken:
            path.rmdir()
        taken.append(handle)
        return handle

    monkeypatch.setattr(lock, "_locked_handle", late)
    with locked(folder):
        assert len(taken) == 2
        monkeypatch.undo()
        with pytest.raises(UsageError, match="another undistill is at work"), locked(folder):
            pass
        assert folder.is_dir()  # who is refused takes nothing away
