"""What is to be enhanced: which image becomes which file, and what is left alone."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from undistill.base.errors import UsageError
from undistill.base.record import Record
from undistill.dataset import within
from undistill.images import EXTENSIONS, READ_ONLY, look_through

ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "AVIF": ".avif"}
"""Of the formats that can be asked for."""
READ_ONLY_ENDINGS = tuple(f".{format.lower()}" for format in READ_ONLY)


@dataclass(frozen=True)
class EnhanceJob:
    """An image to read, and where its enhanced twin goes, relative to the output folder; and its mask, if any."""

    source: Path
    target: Path
    mask: Path | None = None


def list_jobs(
    inputs: Sequence[Path],
    out: Path,
    split: tuple[float, float] = (0.0, 1.0),
    format: str | None = None,
    suffix: str = "",
    masks: Path | None = None,
) -> list[EnhanceJob]:
    """Jobs for files and for all images below folders. An image's id for the split is its name without ending.

    Args:
        format: Pillow's name of the format to write; None: each file's own.
        suffix: what is added to the names, before their ending.
        masks: a folder that has a mask for each, a PNG of the same relative path.

    Raises:
        UsageError: an input or a mask is missing, an input is no image, two would become one file, or a file would be
            overwritten that is an input or that we have not made.
    """

    def job(source: Path, relative: Path) -> EnhanceJob:
        mask = None if masks is None else masks / relative.with_suffix(".png")
        return EnhanceJob(source, relative.with_name(f"{relative.stem}{suffix}{_ending(relative, format)}"), mask)

    jobs: list[EnhanceJob] = []
    found = 0
    ours = {(out / name).resolve() for name in Record(out).files}
    for path in inputs:
        if path.is_dir():
            images = look_through(path).images
            made = ours | _enhanced_below(path, images)
            jobs += [job(image, image.relative_to(path)) for image in images if image.resolve() not in made]
            found += len(images)
        elif not path.exists():
            raise UsageError(f"{path} does not exist")
        elif not path.is_file():
            raise UsageError(f"{path} is neither a file nor a folder")
        elif path.suffix.lower() not in EXTENSIONS:
            raise UsageError(f"{path}: can't enhance {path.suffix or 'a file without ending'}, only {_endings()}")
        elif path.resolve() in ours:  # a shell's * names them too
            found += 1
        else:
            jobs.append(job(path, Path(path.name)))
    if not jobs:
        hint = "but what undistill made: name its folder itself" if found else f"({_endings()})"
        raise UsageError(f"{', '.join(map(str, inputs))}: no image inside {hint}")
    jobs = [each for each in jobs if within(each.source.stem, split)]
    if not jobs:
        raise UsageError(f"no image of {', '.join(map(str, inputs))} falls into the split {split[0]:g}:{split[1]:g}")
    for each in jobs:
        if each.mask is not None and not each.mask.is_file():
            raise UsageError(f"{each.source} has no mask: {each.mask} is not there")
    sources = {each.source.resolve() for each in jobs}
    taken: dict[Path, Path] = {}
    for each in jobs:
        target = (out / each.target).resolve()
        if target in sources:
            raise UsageError(f"{out / each.target} would be overwritten: choose another folder for -o, or a --suffix")
        if target.exists() and target not in ours:
            raise UsageError(f"{out / each.target} is there and not made by undistill: choose another folder for -o")
        if target in taken and taken[target] != each.source:
            raise UsageError(f"{taken[target]} and {each.source} would both become {out / each.target}: run them apart")
        taken[target] = each.source
    return list({each.target: each for each in jobs}.values())


def _enhanced_below(folder: Path, images: Sequence[Path]) -> set[Path]:
    """What earlier runs made in folders below it that hold these images: no inputs, unless such a folder is given."""
    made: set[Path] = set()
    for below in {parent for image in images for parent in image.relative_to(folder).parents} - {Path()}:
        out = folder / below
        with suppress(UsageError):  # a record that can't be read: of `out` itself we have spoken
            made |= {(out / name).resolve() for name, entry in Record(out).files.items() if "source" in entry}
    return made


def _ending(path: Path, format: str | None) -> str:
    if format is None:
        return ".png" if path.suffix.lower() in READ_ONLY_ENDINGS else path.suffix
    return path.suffix if format == "JPEG" and path.suffix.lower() in (".jpg", ".jpeg") else ENDINGS[format]


def passed_over(inputs: Sequence[Path]) -> tuple[list[str], list[Path]]:
    """What of the inputs' folders no job is made of, though it looks like a picture; and folders that can't be read."""
    others, closed = [], []
    for listing in map(look_through, (path for path in inputs if path.is_dir())):
        kinds: dict[str, list[str]] = {}
        for path in listing.others:
            ending = path.suffix.lower()
            kind = f"no files ({ending})" if ending in EXTENSIONS else f"{ending}, which is not read"
            kinds.setdefault(kind, []).append(path.name)
        for kind, names in sorted(kinds.items()):
            others.append(f"{len(names)} {kind}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
        closed += listing.closed
    return others, closed


def _endings() -> str:
    return ", ".join(sorted(EXTENSIONS))
