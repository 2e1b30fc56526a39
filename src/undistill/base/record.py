"""What undistill made in a folder: so that work goes on where it stopped, and nobody else's file is written over.

Two files, which are read one after the other:

- `.undistill.json`, {"version": 1, "files": {NAME: ENTRY, ...}}, as it was when the last run ended.
- `.undistill.jsonl`, the journal of a run: a line [NAME, ENTRY] for each file as it is made, the later one counts. When
  the run ends it is merged into `.undistill.json` and goes; where it is there, a run is at work or was killed.

NAME is a file's path relative to the folder. ENTRY says what the file was made with, and in `result` the SHA-256 of its
bytes; an empty one, {}, that a run was about to make it.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any

from undistill.base.errors import UsageError, naming
from undistill.base.files import replacing, whole_lines

RECORD = ".undistill.json"
JOURNAL = ".undistill.jsonl"

Entry = dict[str, Any]


class Record:
    """What was made in a folder, by file; it costs a line for each, and a kill loses none (module docstring).

    Args:
        out: the output folder. Paths of files are relative to it.

    Raises:
        UsageError: there is a record, but it can't be read.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.files: dict[str, Entry] = {}
        self._journal: FileIO | None = None  # open from the first line that we write
        for path, read in ((out / RECORD, _read_record), (out / JOURNAL, _read_journal)):
            try:
                self.files |= read(path)
            except (FileNotFoundError, NotADirectoryError):
                pass
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise UsageError(f"{path} can't be read: delete {out}, or choose another folder for -o") from error

    def plan(self, targets: Iterable[Path]) -> None:
        """Note the files to be made, before the first is: after a kill we know what lies there as ours.

        They are on the disk when it returns, so that even a power cut leaves no file that is nobody's.
        """
        new = {target.as_posix(): Entry() for target in targets}
        self._append({name: entry for name, entry in new.items() if name not in self.files}, sync=True)

    def holds(self, target: Path, wanted: dict[str, Any]) -> bool:
        """See `holds`."""
        return holds(self.out / target, self.files.get(target.as_posix(), {}), wanted)

    def write(self, target: Path, data: bytes, made_with: dict[str, Any]) -> None:
        """Write a file, and note it."""
        self.note(target, write(self.out / target, data, made_with))

    def note(self, target: Path, entry: Entry) -> None:
        """Keep the entry of a file that is written. From here on a killed process can't lose it."""
        self._append({target.as_posix(): entry})

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Save it when the work inside ends, however it ends: of two errors the first is told."""
        try:
            yield
        except BaseException:
            with suppress(OSError):
                self.save()
            raise
        self.save()

    def save(self) -> None:
        """Merge the journal, ours or that of a killed run, into the record. Call it when the work ends."""
        self._close()
        journal = self.out / JOURNAL
        if not journal.exists():
            return
        lines = (f"{json.dumps(name)}: {json.dumps(self.files[name], sort_keys=True)}" for name in sorted(self.files))
        with replacing(self.out / RECORD) as beside, beside.open("w", encoding="utf-8") as file:
            file.write('{"version": 1, "files": {\n' + ",\n".join(lines) + "\n}}\n")
            file.flush()
            os.fsync(file.fileno())  # or a power cut might leave neither
        journal.unlink()

    def _append(self, entries: Mapping[str, Entry], sync: bool = False) -> None:
        if not entries:
            return
        with naming(self.out / JOURNAL):
            if self._journal is None:
                self.out.mkdir(parents=True, exist_ok=True)
                self._journal = (self.out / JOURNAL).open("ab", buffering=0)
                self._journal.truncate(whole_lines(self.out / JOURNAL))
            try:
                data = memoryview("".join(f"{json.dumps(line)}\n" for line in entries.items()).encode())
                while data:
                    data = data[self._journal.write(data) :]
                if sync:
                    os.fsync(self._journal.fileno())
            except OSError:
                self._close()  # a line that is torn now goes when it is opened again
                raise
        self.files |= entries

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None


def _read_record(path: Path) -> dict[str, Entry]:
    files = json.loads(path.read_text(encoding="utf-8"))["files"]
    return {str(name): dict(entry) for name, entry in files.items()}


def _read_journal(path: Path) -> dict[str, Entry]:
    *lines, _ = path.read_bytes().split(b"\n")  # the last is empty, or torn by a kill in the middle of it
    return {str(name): dict(entry) for name, entry in map(json.loads, lines)}


def holds(path: Path, entry: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """The file is there, whole, and was made with what is wanted now.

    Args:
        entry: the record's, of this file.
    """
    if not entry or {**entry, "result": ""} != {**wanted, "result": ""}:
        return False
    try:
        return bool(entry["result"] == sha256(path.read_bytes()).hexdigest())
    except OSError:
        return False


def write(path: Path, data: bytes, made_with: dict[str, Any]) -> dict[str, Any]:
    """Write a file; it is there whole or not at all. Returns its entry in a record."""
    with replacing(path) as beside:
        beside.write_bytes(data)
    return {**made_with, "result": sha256(data).hexdigest()}
