"""`-` of `undistill enhance`: one image from standard input, to standard output, or both."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from undistill.base.errors import Failure, UsageError
from undistill.base.output import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from undistill.enhance.change import Change
    from undistill.enhance.enhancer import Enhancer
    from undistill.enhance.jobs import EnhanceJob
    from undistill.enhance.provenance import Label
    from undistill.images import Encoding

PIPE = Path("-")


@contextmanager
def read_pipe(inputs: Sequence[Path]) -> Iterator[list[Path]]:
    """The inputs, with a file that holds what standard input brings, `stdin.png` for one, in the place of `-`.

    Raises:
        UsageError: `-` is not the only one.
        ImageError: no image comes.
    """
    if PIPE not in inputs:
        yield list(inputs)
        return
    if len(inputs) > 1:
        raise UsageError("- is standard input, one image: it goes with no other")
    from undistill.images import ImageError, format_of

    data = sys.stdin.buffer.read()
    try:
        ending = ".jpg" if (format := format_of(data)) == "JPEG" else f".{format.lower()}"
    except ImageError as error:
        raise ImageError("standard input brings no image") from error
    with TemporaryDirectory() as folder:
        path = Path(folder, f"stdin{ending}")
        path.write_bytes(data)
        yield [path]


def write_pipe(
    job: "EnhanceJob",
    enhancer: "Callable[[], Enhancer]",
    wanted: "Change",
    how: "Encoding",
    label: "Label | None",
) -> None:
    """Enhance one image to standard output; what there is to say goes to standard error.

    Raises:
        UsageError: standard output is a terminal.
        ImageError: the image can't be enhanced.
        Failure: standard output can't be written.
    """
    from undistill.enhance.bytes import enhance_bytes
    from undistill.enhance.shared import SharedEnhancer
    from undistill.images import ImageError

    if sys.stdout.isatty():
        raise UsageError("-o - writes an image, and standard output is a terminal: say where it goes, > out.png")
    mask = job.mask.read_bytes() if job.mask else None
    try:
        same_kind = job.source.suffix.lower() == job.target.suffix.lower()
        made = enhance_bytes(job.source.read_bytes(), SharedEnhancer(enhancer), wanted, how, same_kind, label, mask)
    except ImageError as error:
        raise ImageError(f"{job.source.name} {error}") from error
    for note in made.notes:
        say(f"{job.source.name}: {note}", err=True)
    try:
        sys.stdout.buffer.write(made.data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise Failure(f"standard output can't be written: {error.strerror}") from error
