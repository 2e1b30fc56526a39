"""results.json of a reproduction: what its steps found, what is stored, what the paper says."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from math import isfinite, nan
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

from undistill.base.settings import read_yaml
from undistill.metrics.results import read_json, read_results, versions
from undistill.pairs.spec import PairSpec
from undistill.report.findings import OURS
from undistill.reproduce.plan import (
    ABLATION_ROWS,
    DRAWS,
    FEATURES,
    LORA,
    SETUPS,
    results_of,
    rows_of,
    setup_of,
)
from undistill.steps import PlanStep, as_line, read_plan

HERE = Path(str(files("undistill"))) / "reproduce"
STORED = HERE / "stored"
_AGAIN = "the same command makes it again"


def gather_results(
    spec: PairSpec, out: Path, steps: Sequence[PlanStep], quick: bool, train: Path | None
) -> dict[str, Any]:
    """What results.json holds.

    Args:
        out: the folder, with all steps done.
        quick: whether fewer images were measured than a figure should rest on.
        train: as `plan` takes it.
    """
    setup = setup_of(spec)
    plan = read_plan(out)
    quality: list[dict[str, Any]] = [
        {"draw": draw, "features": features, "found": _measured(out / results_of(features, draw))}
        for features in FEATURES
        for draw in DRAWS
    ]
    rows = rows_of(setup, train, DRAWS[0])
    made = {row: head for row, head in rows.items() if row not in ABLATION_ROWS}
    first = quality[0]["found"]["rows"]
    trained = all(row in first for row in ABLATION_ROWS)
    real = out / "real" / "results.json"
    bench = _found(out / "bench" / "bench.json")
    return {
        "settings": {
            "pair": spec.name,
            "size": spec.size,
            "quick": quick,
            "unseen": spec.name in SETUPS,
            "recipes": bool(setup.recipes),
            "rows": ({LORA: setup.lora} if setup.lora else {}) | made,
            "heads": list(made),
            "timed": Path(setup.heads[OURS]).name,
            "machine": bench["settings"]["machine"],
            "date": max(done["date"] for done in plan["done"].values()),
        },
        "versions": versions(),
        "paper": read_yaml(HERE / "paper.yaml"),
        "diversity": _found(out / "diversity" / "diversity.json"),
        "sweep": {"report": _found(out / "sweep" / "report.json"), "stored": None}
        if train and setup.sweep
        else stored(spec, "sweep"),
        "quality": quality,
        "ranking": ranking(quality),
        "ablation": {"report": {"rows": {row: first[row] for row in ("pairwise", *ABLATION_ROWS)}}, "stored": None}
        if trained
        else stored(spec, "ablation"),
        "real": _measured(real) if real.exists() else None,
        "bench": bench,
        "steps": [{"part": step.part, "command": as_line(step), **plan["done"][step.makes]} for step in steps],
    }


def ranking(quality: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Do extractors and draws put the rows in the same order?

    Rows are ranked by KID to the teacher, which gives the order of gap closed, and is there where the gap is null.

    Returns: `{"orders": [{"draw", "features", "rows": nearest first}], "agreement": [{"of", "to", "tau"}]}`, `tau`
    Kendall's, 1 for the same order, -1 for the reverse; null where there are fewer than two rows.
    """
    measured = [
        {
            row: values["kid_teacher"]["value"]
            for row, values in one["found"]["rows"].items()
            if row not in ("student", "teacher", *ABLATION_ROWS) and values["kid_teacher"]["value"] is not None
        }
        for one in quality
    ]
    orders = [
        {"draw": one["draw"], "features": one["features"], "rows": sorted(kids, key=kids.__getitem__)}
        for one, kids in zip(quality, measured, strict=True)
    ]
    agreement = []
    for i, one in enumerate(quality):
        for j, other in enumerate(quality[:i]):
            both = [row for row in measured[i] if row in measured[j]]
            tau: float = nan
            if len(both) > 1:
                tau = kendalltau([measured[j][row] for row in both], [measured[i][row] for row in both]).statistic
            agreement.append(
                {
                    "of": [other["features"], other["draw"]],
                    "to": [one["features"], one["draw"]],
                    "tau": float(tau) if isfinite(tau) else None,
                }
            )
    return {"orders": orders, "agreement": agreement}


def stored(spec: PairSpec, what: str) -> dict[str, Any] | None:
    """A figure that took hours, of an earlier run: with its command, commit, date and n."""
    file = STORED / f"{spec.name}-{what}.json"
    if not file.exists():
        return None
    stored = json.loads(file.read_text(encoding="utf-8"))
    return {"report": stored.pop("report"), "stored": stored}


def _found(path: Path) -> Any:
    """What a step has found; a folder without it is made again."""
    return read_json(path, f"delete {path if path.parent.name == 'sweep' else path.parent}, and {_AGAIN}")


def _measured(path: Path) -> dict[str, Any]:
    return read_results(path, f"delete it, and {_AGAIN}")
