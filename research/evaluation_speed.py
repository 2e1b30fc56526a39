"""How long `undistill evaluate` takes beside an earlier commit, by turns, and whether both find the same.

    git worktree add ../before 416562e
    python -m research.evaluation_speed --before ../before --data PAIRS --enhanced ENHANCED [--limit 300] [--turns 3] \
        [--split 0.9:1]

Both measure the same images with the same fixed filters and an empty cache, once each a turn. Then the same once more
here: with the cache that is there now, and from an empty one with tuned filters. Prints seconds, by the clock and of
the CPU (which depend less on what else the machine does), their ratio, and the largest difference of what is found for
each image: features (of the largest of them), likeness, identity.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

FILTERS = {
    "sharpen": {"sharpen": 0.2},
    "grain": {"grain": 1.5},
    "colour": {"match": 0.5, "saturation": 1.15},
    "combined": {"match": 0.5, "saturation": 1.15, "sharpen": 0.2, "grain": 1.5},
    "blur": {"blur": 0.5},
}
ROW = "tiny-best"
COMPARED_METRICS = (
    "ssim_student",
    "psnr_student",
    "lpips_student",
    "identity",
    "identity_rank1",
    "periodic",
    "blur_effect",
)


def time_evaluation(data: Path, enhanced: Path, split: tuple[float, float], limit: int, tuned: bool, out: Path) -> None:
    """In a process of its own, of either checkout: measure, and write seconds, rows and some raw features."""
    import numpy as np
    import torch

    from undistill.dataset.shard import Pairs
    from undistill.images import decode_rgb
    from undistill.metrics import baselines, evaluate, features

    pairs = Pairs(data)
    if not tuned:
        fixed = {name: baselines.Filter(**strengths) for name, strengths in FILTERS.items()}
        if hasattr(evaluate, "_tune"):  # before 2026-11-26
            evaluate._tune = lambda *_: fixed
        else:
            from undistill.metrics import tuning

            def tune(sides: Any, *_: Any, **__: Any) -> Any:
                looks = [baselines.channel_statistics(side) for side in sides]
                made = {name: baselines.Baseline(filter, *looks) for name, filter in fixed.items()}
                return tuning.Baselines([made])

            setattr(evaluate, "tune", tune)  # noqa: B010  # mypy: not exported
    start = time.monotonic()
    results = evaluate.evaluate(pairs, {ROW: enhanced}, split, limit=limit)
    seconds = time.monotonic() - start
    extractor: Any = features.load_extractor("efficientnet-lite0", torch.device("cpu"))
    pixels = [decode_rgb(row.student) for row, _ in zip(pairs, range(20), strict=False)]
    look = extractor if not hasattr(extractor, "each") else extractor.look  # before 2026-11-26
    seen = np.stack([look(image)[0] for image in pixels])
    out.write_text(json.dumps({"seconds": seconds, "features": seen.tolist(), **results.to_json()}))


def run_evaluation(checkout: Path, cache: Path, *arguments: object) -> dict[str, Any]:
    """`time_evaluation` with a checkout's own code."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        spent = cpu_seconds()
        subprocess.run(
            [sys.executable, __file__, "--child", *map(str, (*arguments, out))],
            env={**os.environ, "PYTHONPATH": str(checkout / "src"), "UNDISTILL_CACHE": str(cache)},
            check=True,
        )
        found: dict[str, Any] = json.loads(out.read_text())
        return found | {"cpu": cpu_seconds() - spent}


def cpu_seconds() -> float:
    """Of the processes that were started here and have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(
    before: Annotated[Path, typer.Option(help="A checkout of the earlier commit.")],
    data: Annotated[Path, typer.Option(help="A pairs data set.")],
    enhanced: Annotated[Path, typer.Option(help="What tiny-best made of it.")],
    limit: Annotated[int, typer.Option()] = 300,
    turns: Annotated[int, typer.Option()] = 3,
    split: Annotated[str, typer.Option(help="LO:HI, what is measured.")] = "0.9:1",
) -> None:
    """Time both checkouts by turns, and print how far what they find differs."""
    here = Path(__file__).parents[1]
    seconds: dict[str, dict[str, list[float]]] = {kind: {"before": [], "here": []} for kind in ("seconds", "cpu")}
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        for _ in range(turns):
            for name, checkout in (("before", before), ("here", here)):
                shutil.rmtree(cache, ignore_errors=True)
                found[name] = run_evaluation(checkout, cache, data, enhanced, split, limit, 0)
                for kind, times in seconds.items():
                    times[name].append(found[name][kind])
        again = run_evaluation(here, cache, data, enhanced, split, limit, 0)
        shutil.rmtree(cache)
        tuned = run_evaluation(here, cache, data, enhanced, split, limit, 1)
    for kind, times in seconds.items():
        word = {"seconds": "clock", "cpu": "CPU"}[kind]
        print(
            f"{word}: before {[round(s, 1) for s in times['before']]} s, here {[round(s, 1) for s in times['here']]} s"
        )
        ratios = [b / h for b, h in zip(times["before"], times["here"], strict=True)]
        print(f"  times as fast: {median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f} over {turns} turns")
        share = tuned[kind] / median(times["here"])
        print(f"  again {again[kind]:.1f} s; with tuning {tuned[kind]:.1f} s, {share:.2f} times as long")
    largest = max(map(max, map(_absolute, found["before"]["features"])))
    pairs = zip(found["before"]["features"], found["here"]["features"], strict=True)
    apart = max(abs(a - b) for old, new in pairs for a, b in zip(old, new, strict=True))
    print(f"features differ by {apart / largest:.1e} of the largest")
    rows = found["before"]["rows"], found["here"]["rows"]
    for metric in COMPARED_METRICS:
        values = [
            (row[metric]["value"], rows[1][name][metric]["value"]) for name, row in rows[0].items() if metric in row
        ]
        known = [(a, b) for a, b in values if a is not None]
        print(f"{metric} differs by {max(abs(a - b) for a, b in known):.1e}, n = {len(known)} rows")


def _absolute(values: list[float]) -> list[float]:
    return [abs(value) for value in values]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, pairs, enhanced, split, limit, tuned, out = sys.argv
        low, high = map(float, split.split(":"))
        time_evaluation(Path(pairs), Path(enhanced), (low, high), int(limit), bool(int(tuned)), Path(out))
    else:
        typer.run(main)
