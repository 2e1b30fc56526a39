"""The first persons that were measured, before and after, beside the teacher: as a sheet, and for the page."""

from collections.abc import Sequence
from pathlib import Path

from undistill.dataset import parse_split
from undistill.dataset.enhanced import Enhanced
from undistill.dataset.samples import Sample, list_files, list_shard_images, list_sides, open_source
from undistill.dataset.shard import DESCRIPTION
from undistill.fit.plan import PAIRS, FitPlan
from undistill.images import png
from undistill.images.read import decode_rgb
from undistill.report.pictures import Triple, write_strip

SHEET = "sheet.png"
ACROSS = 8
"""Persons on it."""
SIDE = 256
"""Of a picture, px, at most."""


def write_sheet(plan: FitPlan, path: Path) -> list[Triple]:
    """Write the sheet. The persons are the first by the order of the data, not chosen.

    Returns: the persons with student, enhanced and teacher; none where the teacher's images are of other people.
    """
    split = parse_split(plan.parts.measured)
    request = plan.request
    folders = request.student is not None
    source = open_source(
        None if folders else Path(request.data or PAIRS),
        [Path(request.student)] if request.student else None,
        [Path(teacher) for teacher in request.teacher] or None,
    )
    students, teachers = list_sides(source, split, min_side=plan.training.min_side if folders else 0)
    enhanced = {sample.id: sample for sample in _enhanced(Path(plan.enhanced))}
    shown = [sample for sample in students if sample.id in enhanced][:ACROSS]
    own = {sample.id: sample for sample in teachers}
    beside = [own[sample.id] for sample in shown] if plan.paired else list(teachers[:ACROSS])
    rows = {
        "before": _read(shown),
        "after": _read([enhanced[sample.id] for sample in shown]),
        "teacher" if plan.paired else "teacher, others": _read(beside),
    }
    side = min(SIDE, min(map(min, (sample.size for sample in shown))) * 2)
    write_strip(rows, path, side)
    if not plan.paired:
        return []
    return [Triple(sample.id, *images) for sample, *images in zip(shown, *rows.values(), strict=True)]


def _enhanced(folder: Path) -> Sequence[Sample]:
    if (folder / DESCRIPTION).exists():
        return list_shard_images(Enhanced(folder), "enhanced", (0, 1))
    return list_files([folder], (0, 1))


def _read(samples: Sequence[Sample]) -> list[bytes]:
    return [png(decode_rgb(sample.read())) for sample in samples]
