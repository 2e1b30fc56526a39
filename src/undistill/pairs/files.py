"""Generate image files: PNGs that keep prompt and seed, nothing overwritten, resumable."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from undistill.base.errors import Failure, UsageError
from undistill.base.progress import progress
from undistill.base.record import Record
from undistill.images import Metadata, Picture, Pixels, encode
from undistill.prompts import Prompt

Make = Callable[[Sequence[str], Sequence[int]], Sequence[Pixels]]


def generate_files(
    prompts: Sequence[Prompt],
    out: Path,
    folders: Mapping[str, Mapping[str, str]],
    maker: Callable[[], Make],
    batch: int,
) -> tuple[int, int]:
    """One PNG a prompt and folder, `out/FOLDER/ID.png`; prompts whose files are there, whole, are skipped.

    Args:
        folders: below `out` ("." is `out` itself), each with what its images are made with (pair, head and so on). It
            is kept in the record and, beside prompt and seed, in the PNG's text.
        maker: makes `make` when the first image needs it. `make(prompts, seeds)` gives (N, H, W, 3) uint8 for each of
            the folders, in order.
        batch: prompts at a time.

    Returns:
        How many prompts were generated, and how many skipped.

    Raises:
        UsageError: a file is there that we have not made, or that we have made with something else.
        Failure: the disk is full, or the output folder can't be written.
    """
    record = Record(out)
    wanted = {
        prompt.id: {
            Path(folder) / f"{prompt.id}.png": {"prompt": prompt.prompt, "seed": prompt.seed, **made_with}
            for folder, made_with in folders.items()
        }
        for prompt in prompts
    }
    for files in wanted.values():
        for target, made_with in files.items():
            _refuse_others(record, target, made_with)
    left = [
        prompt
        for prompt in prompts
        if not all(record.holds(target, made_with) for target, made_with in wanted[prompt.id].items())
    ]
    skipped, generated = len(prompts) - len(left), 0
    if not left:
        record.save()  # a run that was killed in its last moment has left a journal
        return 0, skipped
    make = maker()

    @contextmanager
    def writing() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Failure(
                f"can't write to {out}: {error.strerror}; {generated + skipped} of {len(prompts)} images are done, the "
                "same command goes on from there"
            ) from error

    with record.saved():
        with writing():
            record.plan(target for files in wanted.values() for target in files)
        with progress("generating", len(prompts), skipped) as bar:
            for first in range(0, len(left), batch):
                some = left[first : first + batch]
                images = make([prompt.prompt for prompt in some], [prompt.seed for prompt in some])
                for i, prompt in enumerate(some):
                    with writing():
                        for (target, made_with), pixels in zip(wanted[prompt.id].items(), images, strict=True):
                            record.write(target, _png(pixels[i], made_with), made_with)
                    generated += 1
                    bar.advance()
    return generated, skipped


def _refuse_others(record: Record, target: Path, made_with: Mapping[str, Any]) -> None:
    path = record.out / target
    if not path.exists():
        return
    entry = record.files.get(target.as_posix())
    if entry is None:
        raise UsageError(f"{path} is there and not made by undistill: choose another folder for -o")
    # An empty entry is what a killed run has left.
    other = [key for key in made_with if entry and entry.get(key) != made_with[key]]
    if other:
        raise UsageError(f"{path} was made with another {' and '.join(other)}: choose another folder for -o")


def _png(pixels: Pixels, made_with: Mapping[str, Any]) -> bytes:
    text = {key: str(value) for key, value in made_with.items()}
    text["Software"] = f"undistill {version('undistill')}"
    return encode(Picture(pixels, None, "PNG", Metadata(text=text)), pixels)
