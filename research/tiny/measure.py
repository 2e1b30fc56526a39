"""Is `tiny` a true pair? Draws its images, and measures them:

    python -m research.tiny.measure --data ../shared/portraits -o run/tiny/measures

Prompts obeyed, how much worse the student is, how far both are from real faces, whether both draw the same person,
whether the teacher copies its training set, and the time of an image. Prints a table, and leaves in OUT
`measures.json` and sheets of 100 images of each side, the first hundred, as they came. Started again it goes on where
it stopped.
"""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import torch
import typer

from research.tiny.captions import describe_person
from research.tiny.checks import ENLARGED, gap_values, likeness, nearest, obeyed, to_real
from research.tiny.faces import face_pixels, list_faces
from undistill.base.command import run
from undistill.base.errors import UsageError
from undistill.base.files import replacing
from undistill.base.progress import progress
from undistill.base.settings import read_yaml
from undistill.images import Pixels, to_tensor, write_grid
from undistill.metrics.jackknife import Value
from undistill.names import ANYWHERE, full_name
from undistill.pairs.generator import Generator
from undistill.pairs.load import find_weights
from undistill.pairs.spec import PairSpec, read_spec

DRAW_BATCH = 50
DESCRIBED = 200
"""Images that are to show a gender and an age."""
QUANTILES = (5, 25, 50, 75, 95)


def named_prompts(count: int, seed: int) -> list[str]:
    """The paper's, with names from anywhere, as often of men as of women."""
    random = np.random.default_rng([seed, 1])
    return [
        f"A professional portrait of {full_name(('male', 'female')[k % 2], str(random.choice(ANYWHERE)), random)}"
        for k in range(count)
    ]


def described_prompts(count: int) -> tuple[list[str], list[str], list[float]]:
    """Prompts that ask for a gender and an age from 20 to 70 years, the genders, and the ages."""
    genders = [("male", "female")[k % 2] for k in range(count)]
    ages = np.linspace(20, 70, count).round().tolist()
    prompts = [f"A portrait of {describe_person(gender, age)}" for gender, age in zip(genders, ages, strict=True)]
    return prompts, genders, ages


def draw_sides(
    generator: Generator, prompts: Sequence[str], seed: int, folder: Path, what: str
) -> tuple[Pixels, Pixels]:
    """Student and teacher images, (N, size, size, 3) uint8 each, kept in the folder batch by batch."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs: list[Pixels] = []
    starts = range(0, len(prompts), DRAW_BATCH)
    with progress(f"drawing {what}", len(starts)) as bar:
        for start in starts:
            path = folder / f"{what}-{start:05d}.npy"
            if not path.exists():
                some = prompts[start : start + DRAW_BATCH]
                seeds = [1_000_000 * seed + start + k for k in range(len(some))]
                student = generator.student(some, seeds)
                both = np.stack([student, generator.teacher(some, seeds, student)])
                with replacing(path) as beside, beside.open("wb") as file:
                    np.save(file, both, allow_pickle=False)
            pairs.append(np.load(path, allow_pickle=False))
            bar.advance()
    student, teacher = np.concatenate(pairs, axis=1)
    return student, teacher


def seconds(generator: Generator, count: int = 32, repeats: int = 3) -> dict[str, float]:
    """Time of an image, s, in batches of `count`: the fastest of the repeats, after a first one."""
    prompts, seeds = named_prompts(count, 0), list(range(count))
    images = generator.student(prompts, seeds)
    sides: dict[str, Callable[[], Pixels]] = {
        "student": lambda: generator.student(prompts, seeds),
        "teacher": lambda: generator.teacher(prompts, seeds, images),
    }
    times = {}
    for side, once in sides.items():
        once()
        spent = []
        for _ in range(repeats):
            start = perf_counter()
            once()
            spent.append(perf_counter() - start)
        times[side] = min(spent) / count
    return times


def _distribution(values: Sequence[float]) -> dict[str, float]:
    return {f"{q}%": round(float(np.percentile(values, q)), 4) for q in QUANTILES}


def _weights(spec: PairSpec) -> str:
    """A hash of the weights of both sides, which are folders."""
    folders = {
        find_weights(place).name for side in (spec.student, spec.teacher) for place in (side.model, side.rest) if place
    }
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.safetensors"))
    return sha256(b"".join(sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def _begin(out: Path, settings: dict[str, Any]) -> None:
    """Note in the folder what is measured.

    Raises:
        UsageError: something else was measured there before.
    """
    path = out / "settings.json"
    if path.exists() and read_yaml(path) != settings:
        raise UsageError(f"{out} holds measures of other weights or settings: choose a new folder for -o")
    out.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(json.dumps(settings, indent=2) + "\n")


def measure(generator: Generator, data: Sequence[Path], out: Path, count: int) -> dict[str, dict[str, Any]]:
    """All measures by what they are of.

    Args:
        data: the folders of portraits that it was trained on.
        out: where images are kept.
        count: images a side, of each of two sets of names without a common one.
    """
    prompts = named_prompts(2 * count, 1)
    student, teacher = draw_sides(generator, prompts[:count], 1, out, "names")
    _, reference = draw_sides(generator, prompts[count:], 2, out, "other-names")
    asked, genders, ages = described_prompts(DESCRIBED)
    described = draw_sides(generator, asked, 3, out, "descriptions")
    for side, images in (("student", student), ("teacher", teacher)):
        write_grid(torch.split(to_tensor(images[: min(100, count // 10 * 10)]), 10), out / f"{side}.png")

    px = generator.spec.size
    splits = ((0, 0.8), (0.8, 1))
    train, held_out = (list_faces(data, split, px) for split in splits)
    known, real = face_pixels(train, px), face_pixels(held_out, px)
    large = [face_pixels(list_faces(data, split, ENLARGED), ENLARGED) for split in splits]
    # Not more than there are real ones: of many, some lie near by chance.
    copies, unseen = nearest(teacher[: len(real)], known), nearest(real, known)
    return {
        "prompts obeyed by the student": obeyed(described[0], genders, ages),
        "prompts obeyed by the teacher": obeyed(described[1], genders, ages),
        "prompts obeyed by real faces": obeyed(real, [face.gender for face in held_out], [f.age for f in held_out]),
        "distance to the teacher, alex-2": gap_values(student, teacher, reference),
        "distance to faces not trained on, efficientnet-lite0": to_real(student, teacher, *large),
        "LPIPS of student to teacher": likeness(student, teacher),
        "LPIPS to the nearest training face, teacher's": _distribution(copies.tolist()),
        "LPIPS to the nearest training face, unseen real": _distribution(unseen.tolist()),
        "copies": {"ratio of medians": round(float(np.median(copies) / np.median(unseen)), 4)},
        "seconds an image": seconds(generator),
    }


def table(measures: dict[str, dict[str, Any]]) -> str:
    """As Markdown."""

    def cell(value: Any) -> str:
        if not isinstance(value, Value):
            return f"{value:.3f}"
        return value.why or f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}], n = {value.n}"

    rows = [f"| {of} | {word} | {cell(value)} |" for of, some in measures.items() for word, value in some.items()]
    return "\n".join(["| measure | | value [95% interval] |", "| --- | --- | --- |", *rows])


def main(
    data: Annotated[list[Path], typer.Option(help="A folder of portraits that tiny was trained on; repeatable.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the images and measures.")],
    pair: Annotated[str, typer.Option(help="A pair spec whose models are folders.")] = "tiny",
    steps: Annotated[int | None, typer.Option(min=1, help="Of the student, instead of the spec's.")] = None,
    limit: Annotated[int, typer.Option(min=20, help="Images a side.")] = 1000,
) -> None:
    """Measure tiny."""
    spec = read_spec(pair)
    if steps is not None:
        spec = spec.model_copy(update={"student": spec.student.model_copy(update={"steps": steps})})
    _begin(out, {"spec": spec.hash(), "weights": _weights(spec), "images": limit})
    measures = measure(Generator(spec, "cpu"), data, out, limit)
    as_json = {
        of: {word: value.to_json() if isinstance(value, Value) else value for word, value in some.items()}
        for of, some in measures.items()
    }
    threads = torch.get_num_threads()
    with replacing(out / "measures.json") as beside:
        beside.write_text(json.dumps({**as_json, "threads": threads}, indent=2) + "\n")
    typer.echo(f"{table(measures)}\n\n{spec.student.steps} steps, {limit} images a side, CPU, {threads} threads")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
