import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from undistill.base.errors import UsageError
from undistill.base.record import JOURNAL, RECORD, Record

ENTRY = {"head": "flux1-lite", "weights": "0" * 64, "strength": 1.0, "source": "1" * 64, "result": "2" * 64}


def test_comes_back_with_what_was_noted(tmp_path: Path) -> None:
    record = Record(tmp_path / "out")
    record.plan([Path("a.png"), Path("deep/b.png"), Path("c.png")])
    record.note(Path("a.png"), ENTRY)
    record.write(Path("deep/b.png"), b"picture", {"head": "ünïcode"})
    wanted = {"a.png": ENTRY, "deep/b.png": record.files["deep/b.png"], "c.png": {}}
    assert Record(tmp_path / "out").files == wanted  # the run is still at work, or was killed
    record.save()
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_file()] == [RECORD]
    again = Record(tmp_path / "out")
    assert again.files == wanted
    assert again.holds(Path("deep/b.png"), {"head": "ünïcode"})
    assert not again.holds(Path("c.png"), {})


def test_a_record_of_version_1_is_read_and_goes_on(tmp_path: Path) -> None:
    old = {"version": 1, "files": {"a.png": ENTRY, "b.png": {}}}
    (tmp_path / RECORD).write_text(json.dumps(old, indent=1, sort_keys=True))
    record = Record(tmp_path)
    assert record.files == old["files"]
    record.plan([Path("a.png"), Path("b.png")])
    assert not (tmp_path / JOURNAL).exists()  # nothing new
    record.note(Path("b.png"), ENTRY)
    record.save()
    assert json.loads((tmp_path / RECORD).read_text()) == {"version": 1, "files": {"a.png": ENTRY, "b.png": ENTRY}}


def test_nothing_to_do_writes_nothing(tmp_path: Path) -> None:
    record = Record(tmp_path / "out")
    record.plan([])
    record.save()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("torn", [1, 30, -1])
def test_a_torn_last_line_goes(torn: int, tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.note(Path("a.png"), ENTRY)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + whole.replace(b"a.png", b"b.png")[:torn])
    record = Record(tmp_path)
    assert record.files == {"a.png": ENTRY}
    record.note(Path("c.png"), ENTRY)  # not behind the torn half
    assert Record(tmp_path).files == {"a.png": ENTRY, "c.png": ENTRY}


@pytest.mark.parametrize("name", [RECORD, JOURNAL])
def test_what_is_broken_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"files": 3}\n[]\n')
    with pytest.raises(UsageError, match=r"\.undistill\.jsonl? can't be read: delete .*, or choose another folder"):
        Record(tmp_path)


def test_a_full_disk_tears_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(tmp_path)
    record.note(Path("a.png"), ENTRY)
    journal: Any = record._journal

    class Full:
        """Takes ten bytes more."""

        def __init__(self) -> None:
            self.room = 10

        def write(self, data: Any) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = int(journal.write(data[: self.room]))
            self.room -= written
            return written

        def close(self) -> None:
            journal.close()

    monkeypatch.setattr(record, "_journal", Full())
    with pytest.raises(OSError, match="No space left") as caught:
        record.note(Path("b.png"), ENTRY)
    assert caught.value.filename == str(tmp_path / JOURNAL)
    record.note(Path("c.png"), ENTRY)  # something was deleted
    record.save()
    assert Record(tmp_path).files == {"a.png": ENTRY, "c.png": ENTRY}


def test_a_kill_while_it_is_merged_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(tmp_path)
    record.note(Path("a.png"), ENTRY)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place in ("fsync", "replace", "unlink"):  # before the new record is whole, is there, and the journal is gone
        with monkeypatch.context() as patch:
            patch.setattr(os if place == "fsync" else Path, place, killed)
            with pytest.raises(KeyboardInterrupt):
                record.save()
        assert Record(tmp_path).files == {"a.png": ENTRY}
    record.save()
    assert Record(tmp_path).files == {"a.png": ENTRY}


WORK = """
import sys
from pathlib import Path
from undistill.base.record import Record
record = Record(Path(sys.argv[1]))
record.plan(Path(f"{number}.png") for number in range(20_000))
for number in range(20_000):
    record.note(Path(f"{number}.png"), {"number": number})
    print(number, flush=True)
"""


def test_kill_9_loses_nothing(tmp_path: Path) -> None:
    for _ in range(2):  # the second goes on from the first's
        with subprocess.Popen([sys.executable, "-c", WORK, tmp_path], stdout=subprocess.PIPE, text=True) as work:
            assert work.stdout is not None
            for _ in range(300):
                work.stdout.readline()
            work.send_signal(signal.SIGKILL)
            said = [int(line) for line in work.stdout.read().split("\n")[:-1]]
        files = Record(tmp_path).files
        assert len(files) == 20_000
        noted = {entry["number"] for entry in files.values() if entry}
        assert noted >= set(range(max(said, default=299) + 1))


def test_a_note_costs_the_same_however_many_there_are(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.plan(Path(f"{number:06d}.png") for number in range(20_000))
    before = (tmp_path / JOURNAL).stat().st_size
    for number in range(100):
        record.note(Path(f"{number:06d}.png"), ENTRY)
    assert (tmp_path / JOURNAL).stat().st_size - before < 100 * 400
    assert not (tmp_path / RECORD).exists()
