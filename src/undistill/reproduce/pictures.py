"""Figures 1, 2 and 7 of a reproduction, from the images that were drawn: persons, and two files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undistill.dataset.enhanced import Enhanced
from undistill.dataset.samples import Sample, list_files, list_shard_images
from undistill.dataset.shard import DESCRIPTION, Pairs
from undistill.prompts import read_prompts
from undistill.report.findings import OURS
from undistill.report.pictures import Triple, write_strip
from undistill.reproduce.plan import DRAWS, folder_of

ACROSS = 8
"""Persons in a row."""


def write_figures(results: dict[str, Any], out: Path) -> list[Triple]:
    """Write the figures into `out`. The persons are the first of the draw that were measured, not chosen.

    Returns: the persons of figure 1, with the student's, our and the teacher's image.
    """
    draw = DRAWS[0]
    rows = [row for row in results["settings"]["rows"] if (out / folder_of(row, draw)).exists()]
    pairs = Pairs(out / folder_of("pairs", draw))
    split = results["quality"][0]["found"]["settings"]["split"]
    students = list_shard_images(pairs, "student", (split[0], split[1]))
    chosen = [sample.id for sample in students[: 2 * ACROSS]]
    sides = {
        "student": _images(students, chosen),
        **{row: _images(_samples(out / folder_of(row, draw)), chosen) for row in rows},
        "teacher": _images(list_shard_images(pairs, "teacher", (0, 1)), chosen),
    }
    write_strip({row: images[ACROSS:] for row, images in sides.items()}, out / "figure-7.png")
    write_strip(
        {
            f"{group}{' ' * line}": [
                sample.read() for sample in _samples(out / group)[ACROSS * line : ACROSS * (line + 1)]
            ]
            for group in ("business", "names")
            for line in range(2)
        },
        out / "figure-2.png",
    )
    names = {prompt.id: prompt.name or prompt.prompt for prompt in read_prompts(out / f"draw-{draw}" / "prompts.jsonl")}
    return [
        Triple(names[id], student, enhanced, teacher)
        for id, student, enhanced, teacher in zip(chosen, sides["student"], sides[OURS], sides["teacher"], strict=True)
    ][:ACROSS]


def _samples(folder: Path) -> Sequence[Sample]:
    """Of an enhanced data set, or of a folder."""
    if (folder / DESCRIPTION).exists():
        return list_shard_images(Enhanced(folder), "enhanced", (0, 1))
    return list_files([folder], (0, 1))


def _images(samples: Sequence[Sample], ids: Sequence[str]) -> list[bytes]:
    by_id = {sample.id: sample for sample in samples}
    return [by_id[id].read() for id in ids]
