"""Figure 6 of arXiv 2505.02255, and the heads by themselves: bench.json."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from undistill.base.device import pick_device
from undistill.base.errors import UsageError
from undistill.base.progress import progressed
from undistill.bench.alone import REFERENCE, measure_alone
from undistill.bench.machine import machine
from undistill.bench.memory import cpu_peaks
from undistill.bench.variants import PUBLISHED, load_head
from undistill.bench.ways import measure_ways
from undistill.enhance import Enhancer
from undistill.heads import Head, shipped_heads
from undistill.metrics.results import MetricRow, plain, versions
from undistill.pairs.generator import Generator
from undistill.pairs.spec import read_spec

ALL = "all"
ROUNDS = 20
BUDGET = 30.0
"""Seconds of rounds at a size; see `measure_steps`."""

SIZE_MULTIPLE, LARGEST_SIZE = 16, 8192
"""Sizes are multiples of SIZE_MULTIPLE up to LARGEST_SIZE, px: pairs draw no others."""


def bench(
    pair: str | Path,
    sizes: Sequence[int],
    heads: Sequence[str],
    rounds: int = ROUNDS,
    device: str | None = None,
    compiled: bool | None = None,
) -> dict[str, Any]:
    """Time a pair and heads.

    Args:
        pair: what `read_spec` takes. It draws at every size, whatever it was trained for: time asks not what is drawn.
        sizes: of the images, px.
        heads: as `Head.from_pretrained` takes them; "all" stands for the shipped ones and the published CycleGAN
            generator.
        rounds: at most; slow sizes get fewer.
        compiled: time torch.compile too; None: on a GPU. On a CPU a U-Net takes minutes to compile.

    Returns:
        What bench.json holds: docs/performance.md.

    Raises:
        UsageError: no such pair, head or device, or a size that can't be had.
        Failure: the student's weights can't be had.
    """
    check_sizes(sizes)
    sizes = sorted(set(sizes))
    spec = read_spec(pair)
    where = pick_device(device)
    loaded = load_heads(heads)
    compiles = where.type != "cpu" if compiled is None else compiled

    settings = {
        "pair": spec.name,
        "spec": spec.hash(),
        "size": spec.size,
        "sizes": sizes,
        "heads": list(loaded),
        "steps": {"student": spec.student.steps, "teacher": spec.teacher.steps, "strength": spec.teacher.strength},
        "images a time": 1,
        "rounds": rounds,
        "reference": " ".join(REFERENCE),
        "tf32": {"convolution": torch.backends.cudnn.allow_tf32, "matmul": torch.backends.cuda.matmul.allow_tf32},
        "machine": machine(where),
        "date": datetime.now(UTC).date().isoformat(),
    }
    generator = Generator(spec, where)
    enhancers = {name: Enhancer(head, where, scale="native") for name, head in loaded.items()}
    cost: dict[int, dict[str, MetricRow]] = {}
    for size in sizes:
        generator = generator.at_size(size)  # of the last one: the teacher is loaded once
        cost[size] = measure_ways(generator, enhancers, rounds, BUDGET)
    alone: dict[int, dict[str, dict[str, MetricRow]]] = {}
    limits: dict[int, dict[str, MetricRow]] = {}
    for size in sizes:
        alone[size], limits[size] = measure_alone(loaded, size, rounds, BUDGET, where, compiles)
    if where.type == "cpu":
        _add_cpu_peaks(alone, {Path(name).name: name for name in _each(heads)})
    return {
        "cost": {str(size): plain(rows) for size, rows in cost.items()},
        "heads": {str(size): {name: plain(rows) for name, rows in by_name.items()} for size, by_name in alone.items()},
        "limits": {str(size): plain(rows) for size, rows in limits.items()},
        "settings": settings,
        "versions": versions(),
    }


def check_sizes(sizes: Sequence[int]) -> None:
    """Raises:
    UsageError: a size that can't be had.
    """
    for size in sizes:
        if size % SIZE_MULTIPLE or not SIZE_MULTIPLE <= size <= LARGEST_SIZE:
            raise UsageError(
                f"size {size}: take multiples of {SIZE_MULTIPLE} from {SIZE_MULTIPLE} to {LARGEST_SIZE} px"
            )


def load_heads(names: Sequence[str]) -> dict[str, Head]:
    """Heads by the last of their names.

    Raises:
        UsageError: nothing of that name, or two of one name.
    """
    heads: dict[str, Head] = {}
    for name in _each(names):
        row = Path(name).name
        if row in heads or row in ("student", "teacher"):
            raise UsageError(f"the head {name} has the name of another row, {row}: rename its folder")
        heads[row] = load_head(name)
    return heads


def _each(names: Sequence[str]) -> list[str]:
    """The heads that are meant, each once."""
    return list(
        dict.fromkeys(one for name in names for one in ([*shipped_heads(), PUBLISHED] if name == ALL else [name]))
    )


def _add_cpu_peaks(alone: Mapping[int, dict[str, dict[str, MetricRow]]], paths: Mapping[str, str]) -> None:
    for name in progressed("memory", [*paths, *({PUBLISHED} - paths.keys())]):
        for (size, variant), peak in cpu_peaks(paths.get(name, name), list(alone)).items():
            if alone[size][name].get(variant, {}).get("images_per_s"):  # it ran
                alone[size][name][variant]["peak_mb"] = peak
