"""A bad moment for every writer: `python -m research.faults` has more of them."""

import json
import subprocess
import sys
from pathlib import Path

from research.faults.corpus import write_corpus
from research.faults.writers import WRITERS

ROOT = Path(__file__).parents[3]


def test_the_same_command_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Three kills each, and each other fault once. In a process of its own, since it forks."""
    write_corpus(tmp_path / "whole")
    module = [sys.executable, "-m", "research.faults.writers", str(tmp_path / "whole"), str(tmp_path / "copy")]
    wanted = ["1", "0", ",".join(WRITERS), "kill,kill,kill,full,closed,error"]
    done = subprocess.run([*module, *wanted], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    tries = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(tries) == len(WRITERS) * (3 + 3)
    assert [each for each in tries if each["wrong"]] == []
    assert all(each["met"] for each in tries if each["fault"] == "closed")
    # SQLite bears an error at some of its calls, so that a sweep may end well.
    assert all(each["met"] for each in tries if each["fault"] == "error" and each["writer"] != "sweep")
