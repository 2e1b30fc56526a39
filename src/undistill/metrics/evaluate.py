"""One results table: student, teacher, enhanced sets and tuned trivial baselines, against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from undistill.dataset.enhanced import Enhanced
from undistill.dataset.samples import ImageFolders, Sample, Sides, Source, list_cells, list_files, list_sides
from undistill.dataset.shard import DESCRIPTION
from undistill.dataset.split import position, within
from undistill.errors import Failure, UsageError
from undistill.images import as_written, to_tensor
from undistill.losses import LPIPS
from undistill.metrics.baselines import Filter, Look, look_of, tune
from undistill.metrics.distance import ENOUGH_FOR_FD, Gap, Points, Projection
from undistill.metrics.faces import identity, load_faces
from undistill.metrics.features import CROPS, SIDE, Extractor, Picture, load_extractor, pictures
from undistill.metrics.jackknife import Value, groups_of, interval, mean_value
from undistill.metrics.no_reference import NO_REFERENCE
from undistill.metrics.periodic import SMALLEST, periodic
from undistill.metrics.results import ITSELF, Results, Row
from undistill.metrics.similarity import Comparison, Similarity
from undistill.progress import progress, progressed
from undistill.spread import spread

TUNED_ON = 40
"""Student images that a filter is tried on."""
NAMES = ("student", "teacher", "sharpen", "grain", "colour", "combined", "blur")


def evaluate(
    source: Source,
    enhanced: Mapping[str, Path],
    split: tuple[float, float] = (0.0, 1.0),
    features: str = "efficientnet-lite0",
    min_side: int = 0,
    limit: int | None = None,
    device: torch.device | None = None,
) -> Results:
    """Measure enhanced images.

    What has to be fitted (the projection of the features, the filters of the trivial baselines) is fitted on the
    student and teacher images outside the split; where the split is everything, on the same images.

    Args:
        source: folders of images, or a pairs data set.
        enhanced: folders of enhanced student images, their files named by ids, or enhanced data sets; by the names of
            their rows.
        split: a range of the hash of ids.
        features: a name of `metrics.features.EXTRACTORS`.
        min_side: images with a shorter side are left out, px.
        limit: measure and fit on so many images a side, by the hash of their ids; None: all.
        device: None: the CPU.

    Raises:
        UsageError: folders or names that don't fit.
        Failure: an image can't be read, or a library is missing.
    """
    device = device or torch.device("cpu")
    for name in enhanced:
        if name in NAMES:
            raise UsageError(f"{name} is a row of its own: give the enhanced images another name")
    measured, rest = divide(list_sides(source, (0, 1), min_side=min_side), split, limit)
    students, teachers = measured
    for sample in students:
        width, height = sample.size
        if min(width, height) < SMALLEST:
            raise UsageError(
                f"{sample} is {width} x {height} px: too small to measure, leave such out by --min-side {SMALLEST}"
            )
    sets = {name: _match(students, folder, source) for name, folder in enhanced.items()}
    extractor = load_extractor(features, device)

    fitted = [pictures(side) for side in rest]
    projection = Projection(extractor.each([*fitted[0], *fitted[1]], f"{features}, to fit on"))
    looks = look_of(rest[0]), look_of(rest[1])
    filters = _tune(fitted[0], fitted[1], projection, extractor, looks)
    for name, filter in filters.items():
        sets[name] = [_filtered(sample, filter, looks) for sample in students]

    everyone = {"student": pictures(students), "teacher": pictures(teachers), **sets}
    points = {
        name: projection([picture.sample.id for picture in row], extractor.each(row, f"{features}, {name}"))
        for name, row in everyone.items()
    }
    groups = groups_of(picture.sample.id for row in everyone.values() for picture in row)
    gap = Gap(points["student"], points["teacher"], groups, projection.spread)
    rows = {name: _distances(name, points[name], gap) for name in everyone}
    for name, more in _likeness({name: row for name, row in everyone.items() if name != "teacher"}, device).items():
        rows[name] |= more
    for name, more in _by_themselves(everyone, device).items():
        rows[name] |= more
    for name, more in _identity(everyone["student"], {name: everyone[name] for name in enhanced}).items():
        rows[name] |= more

    settings = {
        **_described(source),
        "enhanced": {name: str(folder) for name, folder in enhanced.items()},
        "split": list(split),
        "min_side": min_side,
        "features": features,
        "crops": f"{CROPS} of {SIDE} px an image, native scale",
        "dimensions": len(projection.spread),
        "distance": "fd" if min(len(students), len(teachers)) // 2 >= ENOUGH_FOR_FD else "kid, Gaussian kernel",
        "images": {"student": len(students), "teacher": len(teachers)},
        "fitted on": {"student": len(rest[0]), "teacher": len(rest[1]), "apart": rest != measured},
        "baselines": {name: asdict(filter) for name, filter in filters.items()},
    }
    return Results(rows, settings)


def _described(source: Source) -> dict[str, Any]:
    if isinstance(source, ImageFolders):
        return {side: [str(folder) for folder in getattr(source, side)] for side in ("student", "teacher")}
    return {"data": str(source.folder), **source.description.origin}


def divide(sides: Sides, split: tuple[float, float], limit: int | None = None) -> tuple[Sides, Sides]:
    """The images of the split, and the rest of them: the same where the split leaves none."""
    ordered = [sorted(side, key=lambda sample: position(sample.id)) for side in sides]
    students, teachers = ([s for s in side if within(s.id, split)][:limit] for side in ordered)
    for word, side in (("student", students), ("teacher", teachers)):
        if len(side) < 2:
            raise UsageError(f"{len(side)} {word} images in the split {split[0]:g}:{split[1]:g}: a distance needs two")
    if len({s.id for s in students}) < len(students):
        raise UsageError("two student images have the same file name: enhanced ones can't be told apart")
    other_students, other_teachers = ([s for s in side if not within(s.id, split)][:limit] for side in ordered)
    if not other_students or not other_teachers:
        return (students, teachers), (students, teachers)
    return (students, teachers), (other_students, other_teachers)


def _match(students: Sequence[Sample], folder: Path, source: Source) -> list[Picture]:
    """The enhanced image of each student image, by its id."""
    everything: Sequence[Sample]
    if (folder / DESCRIPTION).exists():
        data = Enhanced(folder)
        if not isinstance(source, ImageFolders) and data.description.pairs.origin != source.description.origin:
            raise UsageError(f"{folder} was made of other pairs than {source.folder}")
        everything = list_cells(data, "enhanced", (0, 1))
    else:
        everything = list_files([folder], (0, 1))
    by_id = {sample.id: sample for sample in everything}
    missing = [s.id for s in students if s.id not in by_id]
    if missing:
        raise UsageError(
            f"{folder} lacks {len(missing)} of {len(students)} student images, e.g. {missing[0]}: "
            "enhance the same images with the same --split first"
        )
    return pictures([by_id[s.id] for s in students])


def _filtered(sample: Sample, filter: Filter, looks: tuple[Look, Look]) -> Picture:
    # Enhanced images were compressed once more, and baselines must not be spared what that costs.
    made = repr((filter, "as written", [(look.mean.tolist(), look.spread.tolist()) for look in looks]))
    return Picture(sample, lambda pixels, id: as_written(filter(pixels, id, *looks), BytesIO(sample.read())), made)


def _tune(
    students: Sequence[Picture],
    teachers: Sequence[Picture],
    projection: Projection,
    extractor: Extractor,
    looks: tuple[Look, Look],
) -> Mapping[str, Filter]:
    """The filters that bring student images nearest to the teacher's."""
    teacher = projection([picture.sample.id for picture in teachers], map(extractor, teachers))
    some = students[:: -(-len(students) // TUNED_ON)]
    ids = [picture.sample.id for picture in some]
    gap = Gap(projection(ids, map(extractor, some)), teacher, groups_of([*ids, *teacher.ids]))

    with progress("tuning baselines", 64) as bar:

        def score(filter: Filter) -> float:
            filtered = [_filtered(picture.sample, filter, looks) for picture in some]
            points = projection(ids, spread(extractor, filtered))
            bar.advance()
            return -float(gap.kid(points, "teacher")[0])

        return tune(score)


def _distances(name: str, points: Points, gap: Gap) -> Row:
    """A set to itself: one half to the other."""
    n = len(points.ids)
    kid, fd = {}, {}
    for side in ("student", "teacher"):
        if name == side:
            kid[side] = gap.floor(side, Gap.kid)
            fd[side] = gap.floor(side, Gap.fd)
        else:
            kid[side], fd[side] = gap.kid(points, side), gap.fd(points, side)
    row = {f"fd_{side}": interval(fd[side], n, corrected=True) for side in fd}
    row |= {"fd_diff": interval(fd["student"] - fd["teacher"], n, corrected=True)}
    row |= {f"kid_{side}": interval(kid[side], n) for side in kid}
    itself = Value(None, n=n, why=ITSELF)
    return row | {"gap_closed": itself if name in ("student", "teacher") else gap.closed(points)}


def _likeness(rows: Mapping[str, Sequence[Picture]], device: torch.device) -> dict[str, Row]:
    """Likeness to the own student images, of all rows but the teacher."""
    lpips = LPIPS().to(device)
    count = len(rows["student"])

    def look(place: int) -> dict[str, tuple[float, Similarity | None]]:
        compare = Comparison(rows["student"][place].pixels(), lpips, device)
        seen: dict[str, tuple[float, Similarity | None]] = {}
        for name, row in rows.items():
            pixels = row[place].pixels()
            try:
                likeness = None if name == "student" else compare(pixels)
            except Failure as error:
                raise Failure(f"{row[place].sample} {error}") from error
            seen[name] = float(periodic(to_tensor(pixels)[None].to(device))[0]), likeness
        return seen

    seen = list(progressed("likeness", spread(look, range(count)), count))
    found: dict[str, Row] = {name: {"periodic": mean_value([image[name][0] for image in seen])} for name in rows}
    for metric in ("ssim_student", "psnr_student", "lpips_student"):
        for name, row in rows.items():
            values = [getattr(image[name][1], metric) for image in seen if image[name][1]]
            found[name][metric] = mean_value(values) if values else Value(None, n=len(row), why=ITSELF)
    return found


def _by_themselves(rows: Mapping[str, Sequence[Picture]], device: torch.device) -> dict[str, Row]:
    """What can be said of an image without another."""
    found: dict[str, Row] = {name: {} for name in rows}
    for metric, load in NO_REFERENCE.items():
        try:
            measure = load(device)
        except Failure as error:
            for values in found.values():
                values[metric] = Value(None, why=str(error))
            continue
        for name, row in rows.items():
            seen = list(measure.each(row, f"{metric.replace('_', ' ')}, {name}"))
            found[name][metric] = mean_value([float(value[0, 0]) for value in seen])
    return found


def _identity(students: Sequence[Picture], enhanced: Mapping[str, Sequence[Picture]]) -> dict[str, Row]:
    """Of the enhanced rows alone: a filter changes no face, and dlib embeds one at a time, whatever the cores."""
    try:
        faces = load_faces()
    except Failure as error:
        return {name: {"identity": Value(None, why=str(error))} for name in enhanced}
    own = list(faces.each(students, "faces, student"))
    return {name: identity(own, list(faces.each(row, f"faces, {name}"))) for name, row in enhanced.items()}
