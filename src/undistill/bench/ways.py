"""The ways to an image: student, student and head, student and teacher (figure 6 of arXiv 2505.02255)."""

from collections.abc import Callable, Mapping, Sequence

from undistill.bench.timing import measure_steps, median, warm_up
from undistill.enhance import Enhancer
from undistill.images import Pixels
from undistill.metrics import ITSELF
from undistill.metrics.jackknife import Value, mean_value
from undistill.metrics.results import MetricRow
from undistill.pairs.generator import Generator

PROMPT = "A professional portrait of person {number}"


def measure_ways(
    generator: Generator, enhancers: Mapping[str, Enhancer], rounds: int, budget: float
) -> dict[str, MetricRow]:
    """One image at a time, at the size of the generator's spec; see `cost_rows`."""
    student: Pixels

    def prompt(turn: int) -> tuple[list[str], list[int]]:
        return [PROMPT.format(number=turn)], [turn]  # another each time: text encoders remember the last

    def draw(turn: int) -> None:
        nonlocal student
        student = generator.student(*prompt(turn))

    def behind(enhancer: Enhancer) -> Callable[[int], object]:
        return lambda turn: enhancer(student)

    steps = {
        "student": draw,
        **{name: behind(enhancer) for name, enhancer in enhancers.items()},
        "teacher": lambda turn: generator.teacher(*prompt(turn), student),
    }
    reasons = warm_up({"student": draw})
    if reasons:
        return {name: {"seconds": Value(None, why=reasons["student"])} for name in steps}
    reasons = warm_up({name: step for name, step in steps.items() if name != "student"})
    able = {name: step for name, step in steps.items() if name not in reasons}
    return cost_rows(measure_steps(able, rounds, budget, True, f"ways to {generator.spec.size} px"), reasons)


def cost_rows(seconds: Mapping[str, Sequence[float]], reasons: Mapping[str, str]) -> dict[str, MetricRow]:
    """By way: `seconds` (median), `seconds_mean`, the head's `share` of them, and what is `saved` of the teacher's.

    Args:
        seconds: of "student", of heads and of "teacher", by round. Heads and teacher come after the student.
        reasons: why others have none.
    """
    rows: dict[str, MetricRow] = {}
    took = {
        name: list(own) if name == "student" else [a + b for a, b in zip(seconds["student"], own, strict=True)]
        for name, own in seconds.items()
    }
    for name, values in took.items():
        rows[name] = {"seconds": median(values), "seconds_mean": mean_value(values)}
        if name not in ("student", "teacher"):
            rows[name]["share"] = median([own / whole for own, whole in zip(seconds[name], values, strict=True)])
        if name == "teacher":
            rows[name]["saved"] = Value(None, why=ITSELF)
        elif "teacher" in took:
            rows[name]["saved"] = median([1 - a / b for a, b in zip(values, took["teacher"], strict=True)])
        else:
            rows[name]["saved"] = Value(None, why=f"no teacher: {reasons['teacher']}")
    return rows | {name: {"seconds": Value(None, why=why)} for name, why in reasons.items()}
