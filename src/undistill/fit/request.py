"""What `undistill fit` is asked for, and what is kept of it in the folder."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from undistill.base.errors import UsageError
from undistill.base.files import PART
from undistill.metrics.results import read_json, write_json
from undistill.steps import PLAN

FIT = "fit.json"
"""In the folder: what was asked, what was measured for the plan, what was decided."""

VERSION = 1

Kept = TypeVar("Kept")

TEMPLATE = "A professional portrait of {name}"


@dataclass(frozen=True)
class Effort:
    """How much goes into a head.

    Args:
        pairs: drawn, unless a count is given; a smaller budget takes fewer.
        parts: steps of training, in parts of the recipe's own.
        most: of steps; None: any number.
    """

    pairs: int
    parts: float
    most: int | None = None

    def steps(self, recipe: int) -> int:
        """Of training, where the recipe has so many."""
        steps = max(1, round(recipe * self.parts))
        return steps if self.most is None else min(steps, self.most)


Quality = Literal["draft", "good", "best"]
EFFORTS: dict[Quality, Effort] = {
    "draft": Effort(256, 0.25, most=200),  # of `tiny` a quarter of an hour on two cores
    "good": Effort(4096, 1.0),
    "best": Effort(16_384, 2.0),
}


@dataclass(frozen=True)
class Request:
    """What a head is made of, and how much may go into it. Paths are whole ones.

    Args:
        pair: what draws the images, as commands take it; None: the images are there.
        data: a pairs data set that is there.
        student, teacher: folders of images that are there, of whomever.
        domain: the template of the prompts.
        names: a file of names; None: Faker's.
        quality: see `EFFORTS`.
        count: pairs; None: as quality and budget say.
        budget: seconds from now on; None: as long as it takes.
        contents: hash of what the images come from (`contents_of`).
    """

    pair: str | None = None
    data: str | None = None
    student: str | None = None
    teacher: Sequence[str] = ()
    domain: str = TEMPLATE
    names: str | None = None
    quality: Quality = "good"
    count: int | None = None
    budget: float | None = None
    contents: str = ""

    @property
    def source(self) -> dict[str, Any]:
        """What a folder was begun with, and stays with."""
        return {key: value for key, value in self._plain().items() if key not in self.effort}

    @property
    def effort(self) -> dict[str, Any]:
        """What may be more the next time."""
        return {"quality": self.quality, "count": self.count, "budget": self.budget}

    def _plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def read_budget(text: str) -> float:
    """Seconds of 8h, 15m, 1h30m or 90s.

    Raises:
        UsageError: it is no such time.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    hours, minutes, seconds = (float(part or 0) for part in (parts.groups() if parts else (0, 0, 0)))
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise UsageError(f"--budget {text}: write a time like 8h, 15m or 1h30m")
    return total


def read_kept(out: Path, request: Request) -> dict[str, Any]:
    """What fit.json of the folder holds; nothing of a new folder.

    Raises:
        UsageError: the folder holds something else, or was begun with another source.
    """
    file = out / FIT
    if not file.exists():
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out} is a file; -o takes a folder")
        begun = (PLAN, f".{PLAN}{PART}", f".{FIT}{PART}")  # by a fit that was killed in its first moment
        if out.exists() and any(path.name not in begun for path in out.iterdir()):
            raise UsageError(f"{out} holds something else: choose another folder for -o")
        return {}
    kept: dict[str, Any] = read_json(file, "choose another folder for -o")
    source, version = (kept.get(key) for key in ("source", "version")) if isinstance(kept, dict) else (None, None)
    if not isinstance(source, dict):
        raise _broken(file)
    if version != VERSION:
        raise UsageError(f"{file} is of another version of undistill: choose another folder for -o")
    if source != request.source:
        differ = [key for key, value in request.source.items() if source.get(key) != value]
        if differ == ["contents"]:
            raise UsageError(
                f"{out} was begun before images, names or the pair spec changed: choose another folder for -o"
            )
        others = ", ".join(key for key in differ if key != "contents")
        raise UsageError(f"{out} was begun with another {others}: choose another folder for -o")
    return kept


def kept_as(kind: type[Kept], kept: Any, out: Path) -> Kept:
    """What was measured or decided, from fit.json of the folder.

    Raises:
        UsageError: it is not as it was written.
    """
    try:
        return TypeAdapter(kind).validate_python(kept)
    except ValidationError as error:
        raise _broken(out / FIT) from error


def _broken(file: Path) -> UsageError:
    return UsageError(f"{file} is no file of undistill fit, or a broken one: choose another folder for -o")


def keep(out: Path, request: Request, **found: Any) -> None:
    """Write fit.json: the request, and what was found."""
    write_json({"version": VERSION, "source": request.source, "effort": request.effort, **found}, out / FIT)
