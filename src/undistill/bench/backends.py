"""Backends against each other: heads by themselves, by turns."""

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median as middle
from typing import Any

from undistill.base.device import pick_device
from undistill.base.progress import progressed
from undistill.bench.machine import machine
from undistill.bench.run import BUDGET, check_sizes, load_heads
from undistill.bench.timing import median
from undistill.enhance.backends.table import SIZE, TIMED, fastest, pick, seconds_by_backend, time_backends
from undistill.metrics.jackknife import Value
from undistill.metrics.results import MetricRow, plain, versions

AUTO = "auto"


def bench_backends(
    sizes: Sequence[int], heads: Sequence[str], rounds: int, device: str | None = None
) -> dict[str, Any]:
    """Time every backend that is installed, an image at a time.

    Args:
        sizes: of the images, px.
        heads: as `undistill.bench.run.bench` takes them.
        rounds: at most; slow sizes get fewer.

    Returns:
        `backends.<size>.<head>.<backend>` with `seconds` (median) and `times`, how many times as fast as torch it is
        within a round; of "auto", which has them of the backend that it would take by these, its name in `takes`.
        `auto.<head>` is what `enhance --backend auto` does take: `takes`, by `seconds`, its own table of this machine
        at `size`, empty where it has timed nothing yet.

    Raises:
        UsageError: no such head or device, or a size that can't be had.
    """
    check_sizes(sizes)
    where = pick_device(device)
    loaded = load_heads(heads)
    cells = [(size, name) for size in sorted(set(sizes)) for name in loaded]
    found: dict[str, dict[str, dict[str, MetricRow]]] = {str(size): {} for size, _ in cells}
    takes: dict[str, dict[str, str]] = {size: {} for size in found}
    for size, name in progressed("backends", cells):
        seconds = time_backends(loaded[name], where, size, TIMED, rounds, BUDGET)
        known = {way: values for way, values in seconds.items() if not isinstance(values, str)}
        rows = {way: _row(seconds[way], known["torch"]) for way in seconds}
        takes[str(size)][name] = pick({way: middle(values) for way, values in known.items()})
        found[str(size)][name] = {**rows, AUTO: rows[takes[str(size)][name]]}
    return {
        "backends": {size: {name: plain(rows) for name, rows in names.items()} for size, names in found.items()},
        "takes": takes,
        "auto": {
            name: {
                "takes": fastest(head, where, images=1),
                "seconds": seconds_by_backend(head, where, measure=False),
                "size": SIZE,
            }
            for name, head in loaded.items()
        },
        "settings": {
            "heads": list(loaded),
            "rounds": rounds,
            "machine": machine(where),
            "date": datetime.now(UTC).date().isoformat(),
        },
        "versions": versions(),
    }


def _row(seconds: list[float] | str, eager: list[float]) -> MetricRow:
    if isinstance(seconds, str):
        return {"seconds": Value(None, why=seconds)}
    ratios = [theirs / own for own, theirs in zip(seconds, eager, strict=True)]
    return {"seconds": median(seconds), "times": median(ratios)}
