"""Heads by themselves, in every variant, beside what the device can do at most and the published generator."""

from collections.abc import Callable, Mapping, Sequence

import torch

from undistill.base.device import has_bfloat16
from undistill.base.errors import Failure, first_line
from undistill.base.progress import progressed
from undistill.bench.machine import LIMITS
from undistill.bench.memory import cuda_peak
from undistill.bench.timing import TimedStep, measure_steps, median, warm_up
from undistill.bench.variants import PUBLISHED, SLOW_BF16, VARIANTS, load_head, prepare_run, wait
from undistill.heads import Head
from undistill.metrics.jackknife import Value, mean_value
from undistill.metrics.results import MetricRow

REFERENCE = (PUBLISHED, "fp32")
"""Head and variant; the published generator is timed in no other."""
MINUTES = "compiling takes minutes a head on a CPU: --compile"
HELD = Value(None, why="a graph holds its memory from its capture on")

StepName = tuple[str, str]
"""Head and variant, or precision and limit."""


def measure_alone(
    heads: Mapping[str, Head], size: int, rounds: int, budget: float, device: torch.device, compiles: bool
) -> tuple[dict[str, dict[str, MetricRow]], dict[str, MetricRow]]:
    """Rows by head and variant (`head_row`), and the limits, GFLOP/s, by precision and name (`LIMITS`).

    Args:
        heads: the reference is added to them.
        size: of the images, px, one at a time.
        compiles: time torch.compile too.
    """
    heads = {**heads, PUBLISHED: load_head(PUBLISHED)}
    wanted = {
        (name, variant.name): variant
        for name in heads
        for variant in VARIANTS
        if name != PUBLISHED or variant.name == REFERENCE[1]
    }
    steps: dict[StepName, TimedStep] = {}
    work: dict[StepName, float] = {}
    reasons: dict[StepName, str] = {}
    for precision in ("float32", "bfloat16"):
        for limit, make in LIMITS.items():
            run, work[precision, limit] = make(device, getattr(torch, precision))
            if precision == "bfloat16" and not has_bfloat16(device):
                reasons[precision, limit] = SLOW_BF16
            else:
                steps[precision, limit] = _timed_step(run, device)
    peaks: dict[StepName, Value] = {}
    torch._dynamo.reset()
    # All heads share one forward, and by default torch compiles that for eight of them and then, silently, for none.
    with torch._dynamo.config.patch(recompile_limit=len(wanted), fail_on_recompile_limit_hit=True):
        for cell, variant in progressed(f"preparing heads at {size} px", wanted.items(), len(wanted)):
            head = heads[cell[0]]
            try:
                if variant.mode == "compiled" and not compiles:
                    raise Failure(MINUTES)
                run = prepare_run(head, variant, size, device)
                if device.type == "cuda":
                    peaks[cell] = HELD if variant.mode == "graph" else _peak(run, head, device)
                steps[cell] = _timed_step(run, device)
            except (Failure, RuntimeError) as error:
                reasons[cell] = first_line(error)
        reasons |= warm_up(steps)
        able = {cell: step for cell, step in steps.items() if cell not in reasons}
        seconds = measure_steps(able, rounds, budget, True, f"heads at {size} px")

    speeds = {cell: [work[cell] / s for s in seconds[cell]] for cell in work if cell in seconds}
    rows: dict[str, dict[str, MetricRow]] = {name: {} for name in heads}
    for cell, variant in wanted.items():
        name, called = cell
        if cell in reasons:
            rows[name][called] = {"seconds": Value(None, why=reasons[cell])}
            continue
        precision = variant.precision(heads[name], device)
        tops = {limit: speeds.get((precision, limit)) for limit in LIMITS}
        rows[name][called] = head_row(seconds[cell], heads[name].gflop(size), tops, seconds.get(REFERENCE))
        if cell in peaks:
            rows[name][called]["peak_mb"] = peaks[cell]
    limits: dict[str, MetricRow] = {}
    for precision, limit in work:
        known = speeds.get((precision, limit))
        limits.setdefault(precision, {})[limit] = median(known) if known else Value(None, why=reasons[precision, limit])
    return rows, limits


def head_row(
    seconds: Sequence[float],
    gflop: float,
    tops: Mapping[str, Sequence[float] | None],
    reference: Sequence[float] | None,
) -> MetricRow:
    """`seconds` (median), `seconds_mean`, `images_per_s`, `gflop`, `gflop_per_s`, and what is compared round by round:
    `of_LIMIT`, the share of each limit that is reached, and `times`, how many times as fast as the reference it is.

    Args:
        seconds: of an image, by round.
        tops: the limits by name, GFLOP/s by round; None: it can't be measured.
        reference: seconds of an image, by round; None: it can't run.
    """
    row = {
        "seconds": median(seconds),
        "seconds_mean": mean_value(seconds),
        "images_per_s": median([1 / s for s in seconds]),
        "gflop": Value(gflop, n=1),
        "gflop_per_s": median([gflop / s for s in seconds]),
    }
    for limit, top in tops.items():
        row[f"of_{limit}"] = (
            Value(None, why=f"no {limit} in this precision")
            if top is None
            else median([gflop / s / most for s, most in zip(seconds, top, strict=True)])
        )
    row["times"] = (
        Value(None, why="the published generator can't run")
        if reference is None
        else median([theirs / s for s, theirs in zip(seconds, reference, strict=True)])
    )
    return row


def _timed_step(run: Callable[[], object], device: torch.device) -> TimedStep:
    def step(turn: int) -> None:
        run()
        wait(device)

    return step


def _peak(run: Callable[[], object], head: Head, device: torch.device) -> Value:
    weights = sum(parameter.numel() * parameter.element_size() for parameter in head.parameters())
    run()  # compiles, and lets libraries choose
    return cuda_peak(run, weights, device)
