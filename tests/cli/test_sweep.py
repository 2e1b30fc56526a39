import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Run
from tests.training.test_sweep import begin, write
from undistill.training.sweep import results, to_markdown


def test_the_report_is_printed_as_asked_and_written(
    undistill: Run, pairs_folder: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    begin(write(tmp_path), pairs_folder("pairs", 16), out)
    found = results(out)
    code, said, _ = undistill("sweep", "report", out, "--format", "json")
    assert (code, json.loads(said)) == (None, found)
    assert json.loads((out / "report.json").read_text()) == found
    assert undistill("sweep", "report", out, "--format", "md")[1] == to_markdown(found) + "\n"
    text = undistill("--quiet", "sweep", "report", out)[1]
    assert text.startswith("Table 2\n\ncycle   lr ")
    assert "|" not in text
