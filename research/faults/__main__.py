"""python -m research.faults: see the package."""

import json
import platform
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Annotated, Any

import typer

from research.faults.corpus import Case, write_corpus
from undistill.base.progress import progress
from undistill.metrics.results import write_json

BATCH = 500  # files a process: one that crashes takes no more with it


def main(
    minutes: Annotated[float, typer.Option(min=0.1)] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the first broken file.")] = 0,
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("faults.json"),
) -> None:
    """Look for faults for so many minutes, and write down what was tried and found; exit code 1 where something was."""
    with TemporaryDirectory() as folder:
        cases = write_corpus(Path(folder) / "whole")
        (Path(folder) / "cases.json").write_text(json.dumps([(c.file, c.command, c.out) for c in cases]))
        tried, found = _mutate(Path(folder), cases, seed, minutes * 60)
    kinds = Counter(Path(cases[number % len(cases)].file).suffix for number in range(seed, seed + tried))
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "minutes": minutes,
        "seed": seed,
        "files": tried,
        "by_ending": dict(sorted(kinds.items())),
        "found": found,
    }
    write_json(result, out)
    for each in found:
        typer.echo(json.dumps(each))
    typer.echo(f"{tried} broken files, {len(found)} faults -> {out}")
    raise typer.Exit(1 if found else 0)


def _mutate(folder: Path, cases: list[Case], first: int, seconds: float) -> tuple[int, list[dict[str, Any]]]:
    """Broken files until the time is over, in processes that may crash."""
    found, begun, number = list[dict[str, Any]](), monotonic(), first
    with progress("minutes", round(seconds / 60)) as bar:
        while monotonic() < begun + seconds:
            arguments = [str(folder), str(folder / "copy"), str(number), str(BATCH)]
            with subprocess.Popen(
                [sys.executable, "-m", "research.faults.inputs", *arguments], stdout=subprocess.PIPE, text=True
            ) as process:
                assert process.stdout is not None
                last: dict[str, Any] = {}
                for line in process.stdout:
                    entry = json.loads(line)
                    if "file" in entry:
                        last = entry
                    else:
                        if entry["wrong"]:
                            found.append(last | entry)
                        number, last = entry["seed"] + 1, {}
                        bar.show_words(f"{number - first} files, {len(found)} faults")
                    if monotonic() > begun + seconds:
                        process.kill()
                        break
            if last and monotonic() <= begun + seconds:
                found.append(last | {"wrong": f"the process ended with exit code {process.returncode}"})
                number = last["seed"] + 1
    return number - first, found


if __name__ == "__main__":
    typer.run(main)
