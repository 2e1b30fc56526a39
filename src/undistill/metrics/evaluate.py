"""One results table: student, teacher, enhanced sets and tuned trivial baselines, against each other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch

from undistill.base.errors import Failure, UsageError
from undistill.base.record import Record
from undistill.dataset import fold_of, position, within
from undistill.dataset.enhanced import Enhanced
from undistill.dataset.samples import (
    ImageFile,
    ImageFolders,
    Sample,
    Sides,
    Source,
    list_files,
    list_shard_images,
    list_sides,
)
from undistill.dataset.shard import DESCRIPTION
from undistill.images import ImageError
from undistill.metrics import ITSELF, OWN_ROWS
from undistill.metrics.cache import key_of, room, trim
from undistill.metrics.distance import (
    FEWEST_CROSS_FITTED,
    FEWEST_MEASURED,
    Gap,
    Placed,
    Points,
    cross_fitted,
    fitted_on,
    fitted_on_others,
)
from undistill.metrics.extraction import Extractor, Features, Hashed, extract, row_key
from undistill.metrics.faces import identity, load_aged_faces
from undistill.metrics.features import CROPS, SIDE, load_extractor
from undistill.metrics.jackknife import Value, interval, mean_value
from undistill.metrics.no_reference import NO_REFERENCE
from undistill.metrics.periodic import SMALLEST, load_periodic
from undistill.metrics.results import MetricRow, Results
from undistill.metrics.similarity import LIKENESS, load_likeness
from undistill.metrics.tuning import tune, write_baselines


def evaluate(
    source: Source,
    enhanced: Mapping[str, Path],
    split: tuple[float, float] = (0.0, 1.0),
    features: str = "efficientnet-lite0",
    min_side: int = 0,
    limit: int | None = None,
    device: torch.device | None = None,
    baselines: bool = True,
) -> Results:
    """Measure enhanced images.

    What has to be fitted (the projection of the features, the filters of the trivial baselines) is fitted on the
    student and teacher images outside the split, where these are at least half as many as those measured; else on the
    measured ones by cross-fitting, so that no image is measured in what was fitted on it. What was seen in images is
    kept in the cache.

    Where the record of an enhanced folder names folds (`undistill enhance --folds`), each fold is measured by itself,
    in what was fitted on the others, and distances are means over the folds: a head knows the teacher images of all
    folds but its own.

    Args:
        source: folders of images, or a pairs data set.
        enhanced: folders of enhanced student images, their files named by ids, or enhanced data sets; by the names of
            their rows.
        split: a range of the hash of ids.
        features: a name of `metrics.features.EXTRACTORS`.
        min_side: images with a shorter side are left out, px.
        limit: measure and fit on so many images a side, by the hash of their ids; None: all.
        device: None: the CPU.
        baselines: tune trivial baselines, and measure them too.

    Raises:
        UsageError: folders or names that don't fit, or too few images.
        Failure: an image can't be read, or a library is missing.
    """
    for name in enhanced:
        if name in OWN_ROWS:
            raise UsageError(f"{name} is a row of its own: give the enhanced images another name")
    measured, rest = divide(list_sides(source, (0, 1), min_side=min_side), split, limit)
    students, teachers = measured
    sets: dict[str, Sequence[Sample]] = {name: _match(students, folder, source) for name, folder in enhanced.items()}
    folds = folds_of(enhanced, sets)
    part = None
    if folds is not None:
        if limit is not None:  # the first by the hash of their ids lie in the first fold
            raise UsageError("images enhanced by folds are measured fold by fold, all of them: leave --limit out")
        rest = None
        part = {sample.id: fold_of(sample.id, folds) for side in measured for sample in side}
        _refuse_few_a_fold(measured, folds)
    _refuse_few(measured, 2 if rest else FEWEST_MEASURED)
    _refuse_small([*students, *teachers])

    rows: dict[str, MetricRow] = {}
    look = _Extractors(features, device or torch.device("cpu"))
    student, teacher = look.student(students), look.teacher(teachers)
    x, y = (Points.of(side, seen.pop(look.name)) for side, seen in ((students, student), (teachers, teacher)))
    fitted, points = (measured, (x, y)) if rest is None else (rest, look.to_fit_on(rest))
    if part is not None:
        spaces = fitted_on_others(x, y, part)
    else:
        spaces = cross_fitted(x, y) if rest is None else fitted_on(*points)
    gap = Gap(x, y, spaces)
    likeness = {metric: Value(None, n=len(students), why=ITSELF) for metric in LIKENESS}
    rows["student"] = _distances("student", gap.sides["student"], gap) | look.means(student) | likeness
    rows["teacher"] = _distances("teacher", gap.sides["teacher"], gap) | look.means(teacher)

    def measure(name: str, images: Sequence[Sample], *, faces: bool) -> None:
        seen = look.enhanced(name, images, students, faces=faces)
        placed = gap.place(Points.of(students, seen.pop(look.name)))
        rows[name] = _distances(name, placed, gap) | (look.identity(student, seen) if faces else {})
        rows[name] |= look.means(seen)

    for name, images in sets.items():
        measure(name, images, faces=True)
    tuned = tune(fitted, points, look.features, apart=rest is not None, part=part) if baselines else None
    if tuned is not None:
        ids = [sample.id for sample in students]
        with room(key_of("baselines 1", row_key(students), tuned, *ids)) as folder:

            def measure_baselines() -> None:
                for name, images in write_baselines(students, tuned, folder).items():
                    measure(name, images, faces=False)  # a filter changes no face

            try:
                measure_baselines()
            except ImageError:  # one of those kept is broken
                for name in tuned.described:
                    rmtree(folder / name, ignore_errors=True)
                measure_baselines()
    trim()

    settings = {
        **described(source, enhanced, split, features, min_side, limit),
        "crops": f"{CROPS} of {SIDE} px an image, native scale",
        "dimensions": min(len(space.spread) for space in spaces),
        "distance": "kid, Gaussian kernel",
        "images": {"student": len(students), "teacher": len(teachers)},
        **({} if folds is None else {"folds": folds}),
        "fitted on": {"student": len(fitted[0]), "teacher": len(fitted[1]), "apart": rest is not None},
        "baselines": {} if tuned is None else tuned.described,
    }
    return Results(rows, settings)


class _Extractors:
    """What looks at the images of each row, as far as it can be had here; `why` says by metric what can't."""

    def __init__(self, features: str, device: torch.device) -> None:
        self.features = load_extractor(features, device)
        self.name = self.features.name
        self.likeness = load_likeness(device)
        self.periodic = load_periodic(device)
        self.alone: dict[str, Extractor] = {}
        self.why: MetricRow = {}
        for metric, load in NO_REFERENCE.items():
            try:
                self.alone[metric] = load(device)
            except Failure as error:
                self.why[metric] = Value(None, why=str(error))
        try:
            self.faces: Extractor | None = load_aged_faces()
        except Failure as error:
            self.faces = None
            self.no_faces = dict.fromkeys(("age_drift", "identity"), Value(None, why=str(error)))

    def student(self, images: Sequence[Sample]) -> dict[str, list[Features]]:
        return extract("student", images, [self.features, self.periodic, *self.alone.values(), *self._faces()])

    def teacher(self, images: Sequence[Sample]) -> dict[str, list[Features]]:
        return extract("teacher", images, [self.features, *self.alone.values()])

    def enhanced(
        self, name: str, images: Sequence[Sample], students: Sequence[Sample], *, faces: bool
    ) -> dict[str, list[Features]]:
        # The likeness first: it says what is wrong with an image of another size.
        wanted = [self.likeness, self.features, self.periodic, *self.alone.values()]
        return extract(name, images, [*wanted, *(self._faces() if faces else ())], students)

    def to_fit_on(self, rest: Sides) -> tuple[Points, Points]:
        """Features of images that are not measured."""
        words = f"{self.name}, to fit on"
        x, y = (Points.of(side, extract(words, side, [self.features])[self.name]) for side in rest)
        return x, y

    def _faces(self) -> list[Extractor]:
        return [] if self.faces is None else [self.faces]

    def means(self, seen: Mapping[str, Sequence[Features]]) -> MetricRow:
        """Of what is a figure for each image."""
        figures = {"periodic": self.periodic, **self.alone}
        row = {
            metric: mean_value([float(values[0, 0]) for values in seen[extractor.name]])
            for metric, extractor in figures.items()
            if extractor.name in seen
        }
        for place, metric in enumerate(LIKENESS):
            if self.likeness.name in seen:
                row[metric] = mean_value([float(values[0, place]) for values in seen[self.likeness.name]])
        return row | self.why

    def identity(self, student: Mapping[str, Sequence[Features]], seen: Mapping[str, Sequence[Features]]) -> MetricRow:
        """Whether it is still the same person."""
        if self.faces is None:
            return self.no_faces
        return identity(student[self.faces.name], seen[self.faces.name])


def described(
    source: Source,
    enhanced: Mapping[str, Path],
    split: tuple[float, float],
    features: str,
    min_side: int,
    limit: int | None,
) -> dict[str, Any]:
    """What `evaluate` is asked to measure, as the settings of its results say it."""
    if isinstance(source, ImageFolders):
        sides: dict[str, Any] = {
            side: [str(folder) for folder in getattr(source, side)] for side in ("student", "teacher")
        }
    else:
        sides = {"data": str(source.folder), **source.description.origin}
    return {
        **sides,
        "enhanced": {name: str(folder) for name, folder in enhanced.items()},
        "split": list(split),
        "min_side": min_side,
        "limit": limit,
        "features": features,
    }


def divide(sides: Sides, split: tuple[float, float], limit: int | None = None) -> tuple[Sides, Sides | None]:
    """The images of the split, ordered by the hash of their ids, and the others to fit on.

    None for the others where cross-fitting fits on more: where they are less than half as many as those of the split.

    Raises:
        UsageError: two student images with one id.
    """
    students, teachers = (sorted(side, key=lambda sample: position(sample.id)) for side in sides)
    measured = tuple(Hashed([s for s in side if within(s.id, split)][:limit]) for side in (students, teachers))
    rest = tuple(Hashed([s for s in side if not within(s.id, split)][:limit]) for side in (students, teachers))
    seen: dict[str, Sample] = {}
    for sample in measured[0]:
        if seen.setdefault(sample.id, sample) is not sample:
            raise UsageError(f"{seen[sample.id]} and {sample} have one name: enhanced ones can't be told apart")
    apart = all(
        len(others) >= max(FEWEST_CROSS_FITTED, len(side) / 2) for side, others in zip(measured, rest, strict=True)
    )
    return (measured[0], measured[1]), (rest[0], rest[1]) if apart else None


def _refuse_few(sides: Sides, fewest: int) -> None:
    for word, side in zip(("student", "teacher"), sides, strict=True):
        ids = len({sample.id for sample in side})
        if ids < fewest:
            images = "1 image" if ids == 1 else f"{ids} images"
            raise UsageError(f"{images} of the {word} to measure: it takes at least {fewest} a side")


def _refuse_few_a_fold(sides: Sides, folds: int) -> None:
    for word, side in zip(("student", "teacher"), sides, strict=True):
        counted = Counter(fold_of(sample.id, folds) for sample in side)
        for fold in range(folds):
            if counted[fold] < 2:
                raise UsageError(f"fold {fold} of {folds} has fewer than two images of the {word}: train fewer folds")
            others = len(side) - counted[fold]
            if others < FEWEST_CROSS_FITTED:
                raise UsageError(
                    f"beside fold {fold} of {folds} there are {others} images of the {word}: it takes at least "
                    f"{FEWEST_CROSS_FITTED} to fit on"
                )


def folds_of(folders: Mapping[str, Path], sets: Mapping[str, Sequence[Sample]]) -> int | None:
    """How many folds' heads made the enhanced images, by the records of their folders; None: no folds.

    Raises:
        UsageError: some images were made by a fold's head and some not, or by that of another fold, or of other folds.
    """
    counts: dict[int, str] = {}
    for name, folder in folders.items():
        if (folder / DESCRIPTION).exists():
            continue
        entries = Record(folder).files
        folds = {sample.id: entries.get(_relative(sample, folder), {}).get("fold") for sample in sets[name]}
        if not any(folds.values()):
            continue
        for id, fold in folds.items():
            number, _, count = (fold or "").partition("/")
            if not count or fold_of(id, int(count)) != int(number):
                raise UsageError(
                    f"{name}: {id} was not made by the head that has not seen it: enhance all with --folds"
                )
            counts[int(count)] = name
    if len(counts) > 1:
        raise UsageError(f"{' and '.join(counts.values())} have other numbers of folds: measure them apart")
    return next(iter(counts), None)


def _relative(sample: Sample, folder: Path) -> str:
    assert isinstance(sample, ImageFile)
    return sample.path.relative_to(folder).as_posix()


def _refuse_small(samples: Sequence[Sample]) -> None:
    for sample in samples:
        width, height = sample.size
        if min(width, height) < SMALLEST:
            raise UsageError(
                f"{sample} is {width} x {height} px: too small to measure, leave such out by --min-side {SMALLEST}"
            )


def _match(students: Sequence[Sample], folder: Path, source: Source) -> list[Sample]:
    """The enhanced image of each student image, by its id."""
    everything: Sequence[Sample]
    if (folder / DESCRIPTION).exists():
        data = Enhanced(folder)
        if not isinstance(source, ImageFolders) and data.description.pairs.origin != source.description.origin:
            raise UsageError(f"{folder} was made of other pairs than {source.folder}")
        everything = list_shard_images(data, "enhanced", (0, 1))
    else:
        everything = list_files([folder], (0, 1))
    wanted = {sample.id for sample in students}
    by_id: dict[str, Sample] = {}
    for sample in everything:
        if sample.id in wanted and by_id.setdefault(sample.id, sample) is not sample:
            raise UsageError(f"{by_id[sample.id]} and {sample} have one name: which is enhanced {sample.id}?")
    missing = [id for id in (sample.id for sample in students) if id not in by_id]
    if missing:
        raise UsageError(
            f"{folder} lacks {len(missing)} of {len(students)} student images, e.g. {missing[0]}: "
            "enhance the same images with the same --split first"
        )
    return [by_id[sample.id] for sample in students]


def _distances(name: str, placed: Placed, gap: Gap) -> MetricRow:
    """A set to itself: one half to the other."""
    n = len({id for points in placed for id in points.ids})
    kid, fd = {}, {}
    for side in ("student", "teacher"):
        if name == side:
            kid[side], fd[side] = gap.floor(side, Gap.kid), gap.floor(side, Gap.fd)
        else:
            kid[side], fd[side] = gap.kid(placed, side), gap.fd(placed, side)
    row = {f"fd_{side}": interval(fd[side], n, corrected=True) for side in fd}
    row |= {"fd_diff": interval(fd["student"] - fd["teacher"], n, corrected=True)}
    row |= {f"kid_{side}": interval(kid[side], n) for side in kid}
    itself = Value(None, n=n, why=ITSELF)
    return row | {"gap_closed": itself if name in ("student", "teacher") else gap.closed(placed)}
