"""What undistill made in a folder: so that work goes on where it stopped, and nobody else's file is written over."""

import json
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from undistill.atomic import replacing
from undistill.errors import UsageError

RECORD = ".undistill.json"
_EVERY_S = 5.0


class Record:
    """`OUT/.undistill.json`: for each file made, what it was made with and a hash of what came out.

    Args:
        out: the output folder. Paths of files are relative to it.

    Raises:
        UsageError: there is a record, but it can't be read.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / RECORD
        self.files: dict[str, dict[str, Any]] = {}
        self.saved = time.monotonic()
        self.changed = False
        if not self.path.exists():
            return
        try:
            self.files = {
                str(name): dict(entry)
                for name, entry in json.loads(self.path.read_text(encoding="utf-8"))["files"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{self.path} can't be read: delete {out}, or choose another folder for -o") from error

    def plan(self, targets: Iterable[Path]) -> None:
        """Note the files to be made, before the first is: after a kill we know what lies there as ours."""
        for target in targets:
            self.files.setdefault(target.as_posix(), {})
        self.changed = True
        self.save()

    def holds(self, target: Path, wanted: dict[str, Any]) -> bool:
        """See `holds`."""
        return holds(self.out / target, self.files.get(target.as_posix(), {}), wanted)

    def write(self, target: Path, data: bytes, made_with: dict[str, Any]) -> None:
        """Write a file, and note it."""
        self.note(target, write(self.out / target, data, made_with))

    def note(self, target: Path, entry: dict[str, Any]) -> None:
        """Keep the entry of a file that is written."""
        self.files[target.as_posix()] = entry
        self.changed = True
        if time.monotonic() - self.saved > _EVERY_S:
            self.save()

    def save(self) -> None:
        if self.changed:
            with replacing(self.path) as beside:
                beside.write_text(json.dumps({"version": 1, "files": self.files}, indent=1, sort_keys=True))
            self.saved, self.changed = time.monotonic(), False


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
