"""Model cards of trained heads, filled from what a run and its evaluation have written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from undistill.base.errors import UsageError
from undistill.metrics import BASELINES, OWN_ROWS
from undistill.metrics.results import read_results
from undistill.pairs.spec import PairSpec, read_spec, shipped_pairs
from undistill.report.verdict import judge
from undistill.training.folder import UNMEASURED, Inventory, card, read_inventory, read_metrics
from undistill.training.recipe import read_recipe

MARK = "library_name: undistill"
"""In the first lines of every card."""
_IMAGES = ("data", "student", "teacher", "split", "limit", "min_side")
MEASURED = {
    "gap_closed": "gap closed",
    "identity": "identity to the student",
    "lpips_student": "LPIPS to the student",
    "clip_iqa": "CLIP-IQA",
}
"""Metrics of results.json that a card has, and what it calls them."""


def head_card(
    run: Path,
    results: Sequence[Path] = (),
    row: str | None = None,
    base_model: str | None = None,
    dataset: str | None = None,
) -> str:
    """The card of a run's head: README.md as the hub reads it, its metadata first.

    Args:
        run: the folder of a finished run.
        results: what `undistill evaluate` wrote of the same images, by extractor; none: results.json of the run, and
            results-*.json beside it, where there is one.
        row: of the results; None: the only one that is no student, teacher or filter.
        base_model: the student's hub id; None: that of the shipped pair whose pairs it was trained on, if it was.
        dataset: hub id of the pairs data set.

    Raises:
        UsageError: no finished run, no results, or no such row.
    """
    recipe = read_recipe(_of_run(run, "recipe.yaml"))
    data = read_inventory(_of_run(run, "data.json"))
    metrics = read_metrics(_of_run(run, "head/metrics.json"))
    if not results and (run / "results.json").is_file():
        results = [run / "results.json", *sorted(run.glob("results-*.json"))]
    read = [(path, read_results(path, "`undistill evaluate` writes it")) for path in results]
    found = [  # what doesn't depend on the extractor is the same in all of them
        result
        for place, (path, each) in enumerate(read)
        for result in _evaluations(path, each, row)
        if place == 0 or result.metric_type == "gap_closed"
    ]
    doubt = _doubt(read, row)
    spec = _spec(data)
    if base_model is None and spec is not None and "/" in spec.student.model:
        base_model = spec.student.model
    metadata = ModelCardData(
        library_name="undistill",
        license="apache-2.0",
        pipeline_tag="image-to-image",
        tags=["undistill", "portraits", recipe.mode],
        base_model=base_model,
        datasets=dataset,
        model_name=run.resolve().name,
        eval_results=found or None,
    )
    text = card(recipe, data, metrics).split("---\n", 2)[-1]
    if found:
        text = text.replace(UNMEASURED, "\n").replace("\n## Recipe\n", f"{_measured(found)}\n## Recipe\n")
    if doubt:
        text = text.replace("\n    undistill enhance", f"\n{doubt}\n\n    undistill enhance", 1)
    return f"---\n{metadata.to_yaml()}\n---\n{text}"


def _evaluations(path: Path, results: dict[str, Any], row: str | None) -> list[EvalResult]:
    rows, settings = results["rows"], results["settings"]
    names = [name for name in rows if name not in OWN_ROWS]
    if row is None and len(names) != 1:
        raise UsageError(f"{path} has the rows {', '.join(names) or 'of no head'}: say which by --row")
    name = names[0] if row is None else row
    if name not in rows:
        raise UsageError(f"{path} has no row {name}: its rows are {', '.join(rows)}")
    measured = {metric: value for metric, value in rows[name].items() if metric in MEASURED}
    return [
        EvalResult(
            task_type="image-to-image",
            task_name="enhance a student's portraits",
            dataset_type="undistill-pairs",
            dataset_name=_data_name(settings),
            dataset_split=_split_name(settings.get("split")),
            metric_type=metric,
            metric_name=MEASURED[metric],
            metric_value=value["value"],
            metric_args={
                "interval_95": [value.get("low"), value.get("high")],
                "n": value.get("n"),
                "features": settings["features"],
            },
        )
        for metric, value in measured.items()
        if value.get("value") is not None
    ]


def _doubt(read: Sequence[tuple[Path, Any]], row: str | None) -> str:
    """What the card says of a head that is nothing to rely on, by what was measured; nothing of others."""
    results, named = [each for _, each in read], ", ".join(path.name for path, _ in read)
    measured = {
        each["settings"]["features"]: {n: values for n, values in each["rows"].items() if "gap_closed" in values}
        for each in results
    }
    if len(measured) < len(results):
        raise UsageError(f"{named} name one extractor twice: give a file for each")
    if len({str([each["settings"].get(key) for key in _IMAGES]) for each in results}) > 1:
        raise UsageError(f"{named} are of different images: give results of one data set and split")
    name = row or next((name for rows in measured.values() for name in rows if name not in OWN_ROWS), "")
    beside = {
        features: rows
        for features, rows in measured.items()
        if name in rows and any(filter in rows for filter in BASELINES)
    }
    if not beside:
        return ""
    first, *others = beside
    verdict = judge(beside[first], name, {features: beside[features] for features in others})
    instead = f" The filter {verdict.instead} is the better choice." if verdict.instead else ""
    return f"**Experimental.** {verdict.says}{instead}" if verdict.experimental else ""


def _measured(found: list[EvalResult]) -> str:
    lines = [
        "",
        "## Measured",
        "",
        f"By `undistill evaluate` on {found[0].dataset_name}, split {found[0].dataset_split}:",
        "",
        "| | value | 95% interval | n |",
        "| --- | --- | --- | --- |",
    ]
    for result in found:
        arguments = result.metric_args or {}
        low, high = arguments["interval_95"]
        interval = "" if low is None or high is None else f"{low:.3g} to {high:.3g}"
        seen = f", seen by `{arguments['features']}`" if result.metric_type == "gap_closed" else ""
        lines.append(f"| {result.metric_name}{seen} | {result.metric_value:.3g} | {interval} | {arguments['n']} |")
    return "\n".join([*lines, ""])


def _data_name(settings: dict[str, Any]) -> str:
    """Names of folders without the way to them, which is of this machine."""
    sources = settings.get("data") or [*settings.get("student", []), *settings.get("teacher", [])]
    return ", ".join(Path(str(source)).name for source in ([sources] if isinstance(sources, str) else sources))


def _split_name(span: Any) -> str:
    return f"{span[0]:g}:{span[1]:g}" if isinstance(span, list) and len(span) == 2 else "all"


def _spec(data: Inventory) -> PairSpec | None:
    """The shipped pair that these pairs are of."""
    specs = {spec.hash(): spec for spec in map(read_spec, shipped_pairs())}
    return specs.get(str(data.get("pairs", {}).get("spec")))


def _of_run(run: Path, name: str) -> Path:
    if not (run / name).is_file():
        raise UsageError(f"{run} is no finished run of `undistill train`: it has no {name}")
    return run / name
