"""Everything that arXiv 2505.02255 reports, from the project's own commands."""

import json
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from undistill.metrics.results import write_json
from undistill.report.reproduce import write_reproduce_page
from undistill.reproduce.gather import gather_results
from undistill.reproduce.pictures import write_figures
from undistill.reproduce.plan import FULL, QUICK, plan_steps
from undistill.steps import begin_plan, pair_anywhere, run_steps

RESULTS, PAGE = "results.json", "index.html"


def reproduce(
    pair: str | Path,
    out: Path,
    quick: bool,
    train: Path | None,
    portraits: Path | None,
    undistill: Callable[[Sequence[str]], None],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Make every table and figure, and a page of them. Killed and called again it goes on.

    Args:
        pair: what `read_spec` takes.
        out: a folder for all of it.
        quick: fewer images than a figure should rest on.
        train, portraits: as `plan_steps` takes them.
        undistill: runs a command in the working folder; what goes wrong is raised.
        say: is told each command before it runs.

    Returns:
        What OUT/results.json holds; OUT/index.html shows it.

    Raises:
        UsageError: no such pair, one with relative paths, or `out` holds something else.
    """
    spec, anywhere = pair_anywhere(pair)
    train, portraits = (None if folder is None else folder.resolve() for folder in (train, portraits))
    steps = plan_steps(spec, anywhere, QUICK if quick else FULL, train, portraits)
    begin_plan(out, steps)
    # The commands have paths from `out`, so that plan.json and the page hold wherever the folder lies. They run in this
    # process, through the command line's own functions: that they find their files takes the working folder of the
    # process. Nothing else runs in it meanwhile.
    with chdir(out):
        run_steps(Path(), steps, undistill, say)
        write_json(gather_results(spec, Path(), steps, quick, train), Path(RESULTS))
        written: dict[str, Any] = json.loads(Path(RESULTS).read_text(encoding="utf-8"))
        triples = write_figures(written, Path())
        write_reproduce_page(written, triples, Path(), Path(PAGE))
    return written
