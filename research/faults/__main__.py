"""python -m research.faults: see the package."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Annotated, Any

import typer

from research.faults.corpus import Case, write_corpus
from research.faults.writers import FAULTS, WRITERS
from undistill.base.device import processor
from undistill.base.progress import progress
from undistill.metrics.results import write_json

BATCH = 500  # files a process: one that crashes takes no more with it


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="For reading and writing, half for each.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the first try.")] = 0,
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("faults.json"),
) -> None:
    """Look for faults for so many minutes, and write down what was tried and found; exit code 1 where something was."""
    with TemporaryDirectory() as folder:
        cases = write_corpus(Path(folder) / "whole")
        (Path(folder) / "cases.json").write_text(json.dumps([(c.file, c.command, c.out) for c in cases]))
        files = list(_until(minutes * 30, "broken files", _mutate(Path(folder), cases, seed)))
        report = partial(_report, minutes=minutes, seed=seed)
        write_json(report(files, []), out)  # half an hour's work isn't lost with what comes
        moments = list(_until(minutes * 30, "bad moments", _disturb(Path(folder), seed)))
    result = report(files, moments)
    write_json(result, out)
    typer.echo(f"{len(files)} broken files, {len(moments)} bad moments, {len(result['found'])} faults -> {out}")
    raise typer.Exit(1 if result["found"] else 0)


def _report(files: list[dict[str, Any]], moments: list[dict[str, Any]], minutes: float, seed: int) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": processor(),
        "minutes": minutes,
        "seed": seed,
        "files": dict(sorted(Counter(each["command"][0] for each in files).items())),
        "moments": {
            fault: dict(
                sorted(Counter(each["writer"] for each in moments if each["fault"] == fault and each["met"]).items())
            )
            for fault in FAULTS
        },
        "found": [each for each in files + moments if each["wrong"]],
    }


def _until(seconds: float, what: str, tries: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What was tried until the time was over."""
    begun, count, wrong = monotonic(), 0, 0
    with progress(f"{what}, s", round(seconds)) as bar:
        for each in tries:
            if monotonic() >= begun + seconds:
                break
            count, wrong = count + 1, wrong + bool(each["wrong"])
            bar.show_words(f"{count}, {wrong} wrong")
            if each["wrong"]:
                typer.echo(json.dumps(each))
            yield each


def _mutate(folder: Path, cases: list[Case], number: int) -> Iterator[dict[str, Any]]:
    """Broken files without end, in processes that may crash."""
    while True:
        arguments = (str(folder), str(folder / "copy"), str(number), str(BATCH))
        last: dict[str, Any] = {}
        for entry in _said("research.faults.inputs", *arguments):
            last |= entry
            if "wrong" in entry:
                number = entry["seed"] + 1
                yield last
                last = {}
        if last:
            number = last["seed"] + 1
            yield last | {"wrong": "the process crashed"}


def _disturb(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Bad moments without end, one of each kind for each writer in turn."""
    (folder / "disk").mkdir()
    if (
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder / "disk"], capture_output=True, check=False).returncode
        == 0
    ):
        subprocess.run(["umount", folder / "disk"], check=True)
        os.environ["SMALL_DISKS"] = "1"
    while True:
        arguments = (str(folder / "whole"), str(folder / "copy"), "1", str(seed), ",".join(WRITERS), ",".join(FAULTS))
        yield from _said("research.faults.writers", *arguments)
        seed += 1


def _said(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
        finally:
            process.kill()


if __name__ == "__main__":
    typer.run(main)
