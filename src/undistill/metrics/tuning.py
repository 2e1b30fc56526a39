"""Trivial baselines, tuned, and written as enhanced sets: from there on they are measured like a head's."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undistill.base.files import replacing
from undistill.base.progress import progress, progressed
from undistill.base.threads import spread
from undistill.dataset.samples import ImageFile, Sample, Sides
from undistill.images import Pixels, decode, decode_rgb, encode, format_of, png
from undistill.metrics.baselines import SEARCHES, Baseline, ChannelStatistics, Filter, channel_statistics, search
from undistill.metrics.cache import key_of, read_arrays, used, write_arrays
from undistill.metrics.distance import Gap, Points, cross_fitted, quarters
from undistill.metrics.extraction import BATCH, EvalImage, Extractor, Features, row_key

TUNED_ON = 200
"""Student images, at most, that filters are tried on."""
_PART = 4
"""Strengths are searched for on one in so many of these."""
_LOSSLESS = ("PNG", "TIFF")
"""Formats of students whose baselines are written as PNG."""


@dataclass(frozen=True)
class Baselines:
    """Tuned filters, and which of them an image gets.

    Args:
        parts: filters by name; of several parts each was tuned without the images of the others.
        part: by id, whose filters it gets; None: those of the only part.
    """

    parts: Sequence[Mapping[str, Baseline]]
    part: Mapping[str, int] | None = None

    def __call__(self, id: str) -> Mapping[str, Baseline]:
        """By name, those for an image."""
        return self.parts[0 if self.part is None else self.part[id]]

    @property
    def described(self) -> dict[str, list[dict[str, float]]]:
        """The strengths by name, those of each part."""
        return {name: [asdict(part[name].filter) for part in self.parts] for name in self.parts[0]}


def tune(
    sides: Sides,
    points: tuple[Points, Points],
    extractor: Extractor,
    *,
    apart: bool,
    part: Mapping[str, int] | None = None,
) -> Baselines:
    """The filters that bring student images nearest to the teacher's: tuned on images that are not measured.

    Args:
        sides: images to tune on.
        points: what the extractor has taken from them.
        extractor: of the features that are reported.
        apart: none of these images is measured; else they are, and each part gets filters tuned on the others.
        part: by id, in which each is measured; None: one of two halves.

    Raises:
        ValueError: fewer images a side than `cross_fitted` needs.
        ImageError, ShardError: an image can't be read.
    """
    if apart:
        return Baselines([_known(sides, points, extractor, TUNED_ON)])
    if part is None:
        part = {id: number // 2 for id, number in quarters(points[0].ids, points[1].ids).items()}
    tuned = []
    for own in sorted(set(part.values())):
        others = frozenset(id for id, number in part.items() if number != own)
        students, teachers = ([sample for sample in side if sample.id in others] for side in sides)
        x, y = (side.only(others.__contains__) for side in points)
        tuned.append(_known((students, teachers), (x, y), extractor, TUNED_ON // 2))
    return Baselines(tuned, part)


def _known(sides: Sides, points: tuple[Points, Points], extractor: Extractor, most: int) -> dict[str, Baseline]:
    """Filters tuned on these images: from the cache, where they are there."""
    ids = [sample.id for side in sides for sample in side]
    key = key_of("tuning 2", extractor.name, most, *map(row_key, sides), *ids)
    known = read_arrays(key)
    if not known:
        known = _tune(sides, points, extractor, most)
        write_arrays(key, known)
    student, teacher = (ChannelStatistics(*known.pop(side)) for side in ("student", "teacher"))
    return {name: Baseline(Filter(*map(float, strengths)), student, teacher) for name, strengths in known.items()}


def _tune(sides: Sides, points: tuple[Points, Points], extractor: Extractor, most: int) -> dict[str, NDArray[Any]]:
    """Strengths by name, and the looks of both sides.

    Strengths are searched for on a quarter of `most` student images, for time; what comes out must do better than no
    change on all of them.
    """
    students = sides[0][:most]
    gap = Gap(*points, cross_fitted(*points))
    statistics = channel_statistics(sides[0]), channel_statistics(sides[1])
    seen: dict[Filter, list[Features]] = defaultdict(list)

    def score(samples: Sequence[Sample], filter: Filter) -> float:
        """Of the first students; what the filter made of one is looked at once."""
        baseline, known = Baseline(filter, *statistics), seen[filter]

        def look(start: int) -> Sequence[Features]:
            return extractor.look([EvalImage(filtered(some, baseline)) for some in samples[start : start + BATCH]])

        for features in spread(look, range(len(known), len(samples), BATCH)):
            known.extend(features)
        return float(gap.kid(gap.place(Points.of(samples, known)), "teacher")[0])

    with progress("tuning baselines", SEARCHES + 1) as bar:
        found = search(partial(score, students[: -(-most // _PART)]), bar.advance)
        scores = {filter: score(students, filter) for filter in {Filter(), *found.values()}}
        bar.advance()
    best = {name: min(Filter(), filter, key=scores.__getitem__) for name, filter in found.items()}
    best["combined"] = min((best[name] for name in ("combined", "colour", "sharpen", "grain")), key=scores.__getitem__)
    strengths: dict[str, NDArray[Any]] = {name: np.array(astuple(filter)) for name, filter in best.items()}
    student, teacher = (np.stack([looks.mean, looks.spread]) for looks in statistics)
    return {**strengths, "student": student, "teacher": teacher}


def filtered(sample: Sample, baseline: Baseline) -> Pixels:
    """The pixels of an image after the filter, as they are read again from a file like its own."""
    # Enhanced images were compressed once more, and baselines must not be spared what that costs.
    picture = decode(BytesIO(sample.read()))
    pixels = baseline(picture.pixels, sample.id)
    return pixels if picture.format in _LOSSLESS else decode_rgb(encode(picture, pixels))


def write_baselines(students: Sequence[Sample], baselines: Baselines, folder: Path) -> dict[str, list[ImageFile]]:
    """Enhanced sets, one a baseline, in the order of the student images; what is there is kept.

    Args:
        folder: gets NAME/PLACE.png, or the format of the student's image where that loses something.
    """

    def write(place: int) -> dict[str, ImageFile]:
        sample = students[place]
        data = sample.read()
        format = format_of(data)
        ending = "png" if format in _LOSSLESS else format.lower()
        files = {name: ImageFile(folder / name / f"{place:07d}.{ending}") for name in baselines(sample.id)}
        missing = {name: file for name, file in files.items() if not file.path.exists()}
        for name in files.keys() - missing.keys():
            used(files[name].path)
        if not missing:
            return files
        picture = decode(BytesIO(data))
        for name, file in missing.items():
            pixels = baselines(sample.id)[name](picture.pixels, sample.id)
            try:
                with replacing(file.path) as beside:
                    beside.write_bytes(png(pixels) if format in _LOSSLESS else encode(picture, pixels))
            except FileNotFoundError:  # another process wrote the same, and renamed it first
                if not file.path.exists():
                    raise
        return files

    count = len(students)
    written = list(progressed("writing baselines", spread(write, range(count)), count))
    return {name: [files[name] for files in written] for name in written[0]}
