"""Which images a run reads: those of both sides that it trains on, and those that it validates on."""

from collections.abc import Collection, Sequence

from undistill.dataset import parse_split
from undistill.dataset.samples import DataError, ImageFolders, Sample, Sides, Source, list_sides, match
from undistill.training.recipe import Recipe

TrainedOn = tuple[Sides, Sides]
"""Student and teacher images to train on, and those to validate on."""


def sides_of(recipe: Recipe, source: Source) -> TrainedOn:
    """All of them, broken or not.

    Raises:
        DataError: images are missing, too small, or don't match.
    """
    return usable(recipe, listed_sides(recipe, source))


def listed_sides(recipe: Recipe, source: Source) -> TrainedOn:
    """By their ids, of no less than `min_side`; for a paired recipe, those that both sides have, in one order.

    Raises:
        DataError: images are missing, or don't match; or pairs that are none by design.
    """
    if recipe.paired and not isinstance(source, ImageFolders):
        teacher = source.description.pair.get("teacher", {})
        if isinstance(teacher, dict) and teacher.get("start") == "text":
            raise DataError(
                "these pairs are unpaired by design (their teacher begins with the text alone): take a recipe that "
                "needs no pairs, as unpaired, contrastive, or mmd with anchor: student"
            )
    data = recipe.data
    training, validation = (
        list_sides(source, parse_split(split), fraction, data.min_side)
        for split, fraction in ((data.train, data.fraction), (data.val, 1.0))
    )
    return (match(*training), match(*validation)) if recipe.paired else (training, validation)


def all_samples(images: TrainedOn) -> list[Sample]:
    """Each once."""
    return list(dict.fromkeys(sample for sides in images for side in sides for sample in side))


def usable(recipe: Recipe, images: TrainedOn, broken: Collection[str] = ()) -> TrainedOn:
    """What is left without the broken ones, of a paired recipe without their twins either.

    Args:
        broken: texts of samples.

    Raises:
        DataError: none is left, or they are too small, or pairs don't fit each other.
    """
    left = tuple(_without(sides, set(broken), paired=recipe.paired) for sides in images)
    for sides in left:
        if not all(sides):
            raise DataError(f"no image is left without the {len(broken)} that are broken")
        if recipe.paired:
            _refuse_unequal(*sides, resized=recipe.data.size is not None)
    training, validation = left
    if recipe.data.size is None:
        for sample in all_samples((training, validation)):
            if min(sample.size) < recipe.data.crop:
                raise DataError(
                    f"{sample} is smaller than the crop of {recipe.data.crop} px: in the recipe's data set size "
                    "(resize) or min_side (leave out), or lower crop"
                )
    return training, validation


def _without(sides: Sides, broken: set[str], *, paired: bool) -> Sides:
    if not broken:
        return sides
    if paired:
        whole = [pair for pair in zip(*sides, strict=True) if broken.isdisjoint(map(str, pair))]
        return [x for x, _ in whole], [y for _, y in whole]
    student, teacher = ([sample for sample in side if str(sample) not in broken] for side in sides)
    return student, teacher


def _refuse_unequal(student: Sequence[Sample], teacher: Sequence[Sample], *, resized: bool) -> None:
    """The two images of a pair are cut at one place: they need one size, or one shape if they are resized."""
    for x, y in zip(student, teacher, strict=True):
        (width, height), (other_width, other_height) = x.size, y.size
        fits = (
            width * other_height == height * other_width if resized else (width, height) == (other_width, other_height)
        )
        if not fits:
            raise DataError(
                f"{x} has {width} x {height} px and its pair {y} {other_width} x {other_height}: "
                "make them alike" + ("" if resized else ", or set size in the recipe's data")
            )
