"""The whole of undistill on a laptop: prompts, students, a head, teachers, the measure, and a page of what it found."""

import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from undistill.base.device import pick_device
from undistill.base.errors import UsageError
from undistill.base.files import SAMPLES
from undistill.base.record import Record
from undistill.bench import cost, machine, measure_steps
from undistill.dataset.samples import ImageFolders
from undistill.enhance.enhancer import Enhancer
from undistill.heads.head import head_folder, head_hash
from undistill.images import Pixels, read_rgb
from undistill.metrics.evaluate import evaluate
from undistill.metrics.results import MetricRow
from undistill.pairs.files import generate_files
from undistill.pairs.spec import read_spec
from undistill.pipeline import Pipeline
from undistill.prompts import PROMPTS_FILE, Prompt, make_prompts, write_prompts
from undistill.report.demo import COMPARED, WIPED, write_demo_page, write_triples
from undistill.report.pictures import TRIPLE_SIDES, BeforeAfter, before_after, triples

TEMPLATE, DEMO_SEED, SEEN = "A professional portrait of {name}", 1, 10_000
"""tiny's heads have seen names of the first SEEN prompts of this template and seed, and no others: these come after."""

COUNT = 300
"""Prompts, which both sides draw, since what the same prompts have in common cancels in the gap. By efficientnet-lite0
the gap is 2.1 times its standard error with 120 measured prompts and 2.9 times with 200; below 2.0 it is null."""

MEASURED_SPLIT = (1 / 3, 1.0)
"""The split that is measured. On the rest, space and filters are fitted: in a space that was fitted to the students
measured, whatever it hasn't seen looks farther away."""

BATCH_PX = 32 * 64 * 64
"""Pixels that are drawn at a time: 32 images of tiny."""

TIMED_IMAGES, TIMED_ROUNDS = 8, 9
"""Images in a round of timing, and rounds."""

REAL_HEAD = "flux1"
"""The head of the real portraits, whatever the pair is."""

RESULTS, PAGE, STRIP = "results.json", "index.html", "triples.png"


def unseen_prompts(count: int) -> list[Prompt]:
    """Prompts of people whom no head of tiny has seen; the first of more are the same."""
    return make_prompts(TEMPLATE, count, DEMO_SEED, skip=SEEN)


def demo(pair: str | Path, out: Path, count: int = COUNT) -> dict[str, Any]:
    """Draw, enhance and measure portraits of a pair with its own head, and write a page about it.

    Killed and called again it goes on: images are kept, and features by their cache.

    Args:
        pair: what `read_spec` takes; the spec has a head.
        out: will hold student/, enhanced/ and teacher/ with ID.png, prompts.jsonl, results.json, index.html and
            triples.png, and may hold nothing else.
        count: prompts.

    Returns:
        What results.json holds.

    Raises:
        UsageError: no such pair, or it has no head, or `out` holds something else.
        Failure: weights can't be had, or memory or disk are too small.
    """
    spec = read_spec(pair)
    if spec.head is None:
        raise UsageError(f"the pair {spec.name} has no head of its own: name one in its spec (head: ...)")
    weights = head_folder(spec.head)
    prompts = unseen_prompts(count)
    made_with: dict[str, dict[str, str]] = {side: {"pair": spec.name, "spec": spec.hash()} for side in TRIPLE_SIDES}
    made_with["enhanced"] |= {"head": spec.head, "weights": head_hash(weights)}
    _refuse_others(out, {f"{side}/{prompt.id}.png" for side in TRIPLE_SIDES for prompt in prompts})

    pipeline = Pipeline(spec, weights, pick_device())
    batch = max(1, BATCH_PX // spec.size**2)

    def draw(texts: Sequence[str], seeds: Sequence[int]) -> list[Pixels]:
        student, enhanced = pipeline.stages(texts, seeds)
        return [student, enhanced, pipeline.generator.teacher(texts, seeds, student)]

    generate_files(prompts, out, made_with, lambda: draw, batch)
    write_prompts(prompts, out / PROMPTS_FILE)

    # A head may be a folder or a hub id: its row has the last of its names.
    head = Path(spec.head).name
    source = ImageFolders([out / "student"], [out / "teacher"])
    results = evaluate(source, {head: out / "enhanced"}, MEASURED_SPLIT, device=pipeline.generator.device)
    timed = min(TIMED_IMAGES, batch, count)
    results.cost = _cost(pipeline, head, prompts, timed)
    results.settings |= {
        **made_with["enhanced"],
        "size": spec.size,
        "student_side": spec.student.model_dump(mode="json", exclude_defaults=True),
        "teacher_side": spec.teacher.model_dump(mode="json", exclude_defaults=True),
        "prompts": {"template": TEMPLATE, "seed": DEMO_SEED, "first": SEEN, "count": count},
        "timed": {"images": timed, "rounds": TIMED_ROUNDS},
        "machine": machine(pipeline.generator.device),
        "date": datetime.now(UTC).date().isoformat(),
        "commands": _commands(pair, out, head),
        "stored": stored_figure(weights),
    }
    real, results.settings["real"] = real_portraits(pipeline.generator.device)
    results.write(out / RESULTS)

    written: dict[str, Any] = json.loads((out / RESULTS).read_text(encoding="utf-8"))
    shown = triples(prompts[: WIPED + COMPARED], out)
    write_triples(shown, out / STRIP)
    write_demo_page(written, shown, real, out / PAGE)
    return written


def real_portraits(device: torch.device) -> tuple[list[BeforeAfter], dict[str, Any]]:
    """The shipped portraits before and after; by which head, in how many seconds each (median), of what side."""
    enhancer = Enhancer(REAL_HEAD, device)
    shown, seconds = [], []
    for path in sorted(SAMPLES.glob("*.webp")):
        pixels = read_rgb(path)
        start = perf_counter()
        enhanced = enhancer(pixels)
        seconds.append(perf_counter() - start)
        shown.append(before_after(path.stem, pixels, enhanced))
    return shown, {"head": REAL_HEAD, "seconds": round(median(seconds), 2), "size": len(pixels)}


def stored_figure(head: Path) -> dict[str, Any] | None:
    """What a head's metrics.json says of the gap that it closed of many people; None: nothing."""
    file = head / "metrics.json"
    found: dict[str, Any] | None = (
        json.loads(file.read_text(encoding="utf-8")).get("gap_closed") if file.exists() else None
    )
    return found


def _refuse_others(out: Path, images: set[str]) -> None:
    """Refuse a folder with files that the demo has not made: they would be written over, or measured."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; -o takes a folder")
    ours = images | {PROMPTS_FILE, RESULTS, STRIP, PAGE} if Record(out).files else set()
    for path in out.rglob("*"):
        if path.is_file() and not path.name.startswith("."):  # parts of a killed run, or a file manager's
            name = path.relative_to(out).as_posix()
            if name not in ours:
                raise UsageError(f"{path} is not of this demo: choose another folder for -o")


def _cost(pipeline: Pipeline, head: str, prompts: Sequence[Prompt], images: int) -> dict[str, MetricRow]:
    """Student, student and head, student and teacher, the last of which starts from the student's image."""
    generator, enhancer = pipeline.generator, pipeline.enhancer
    assert enhancer is not None
    student: Pixels

    def some(turn: int) -> tuple[list[str], list[int]]:
        # Other prompts each time: text encoders remember the last ones.
        chosen = [prompts[(turn * images + i) % len(prompts)] for i in range(images)]
        return [prompt.prompt for prompt in chosen], [prompt.seed for prompt in chosen]

    def draw(turn: int) -> None:
        nonlocal student
        student = generator.student(*some(turn))

    steps = {
        "student": draw,
        "head": lambda turn: enhancer(student),
        "teacher": lambda turn: generator.teacher(*some(turn), student),
    }
    ways = {"student": ("student",), head: ("student", "head"), "teacher": ("student", "teacher")}
    return cost(measure_steps(steps, TIMED_ROUNDS), ways, images)


def _commands(pair: str | Path, out: Path, head: str) -> list[str]:
    """What makes the page, and what measures its images once more."""
    sides = ("--student", out / "student", "--teacher", out / "teacher", "--enhanced", f"{head}={out / 'enhanced'}")
    commands = (
        ("undistill", "demo", *(() if pair == "tiny" else ("--pair", pair)), "-o", out),
        ("undistill", "evaluate", *sides, "--split", f"{MEASURED_SPLIT[0]:.6f}:1", "-o", "table.json"),
    )
    return [shlex.join(map(str, command)) for command in commands]
