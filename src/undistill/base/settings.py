"""Settings that people write as YAML or JSON: read strictly, and refused in one line that says what to change."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from undistill.base.errors import UsageError

MOST = 4
"""Problems that a message names."""
LONGEST = 60
"""Characters of a key that a message quotes."""

Positive = Annotated[int, Field(gt=0)]
Part = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""Of something whole."""


class Strict(BaseModel):
    """Settings that are fixed once read, and that know all their keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def check_key(key: str) -> None:
    """Raises:
    UsageError: a header can't carry it, so that no client could be told apart by it.
    """
    if not re.fullmatch(r"[!-~]*", key):
        raise UsageError("UNDISTILL_API_KEY: a key has letters, digits and signs of ASCII alone")


def read_yaml(path: Path) -> Any:
    """Raises:
    UsageError: the file can't be read, or is no YAML; its text begins with the path.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # no UTF-8, or a path with a null byte
        raise UsageError(f"{path} can't be read: {error.strerror if isinstance(error, OSError) else error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())}") from error


def explain_all(error: ValidationError, model: type[BaseModel], whole: str) -> str:
    """What pydantic found wrong with data that were to make a `model`, in one line."""
    return first_few(error, lambda each: explain(each, [str(key) for key in each["loc"]], model, whole))


def first_few(error: ValidationError, tell: Callable[[Any], str]) -> str:
    """What is wrong, by `tell` of each of pydantic's problems, unknown keys first; nobody reads more than `MOST`."""
    problems = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    more = len(problems) - MOST
    return "; ".join(map(tell, problems[:MOST])) + (f"; and {more} more" if more > 0 else "")


def explain(problem: Any, where: Sequence[str], model: type[BaseModel], whole: str) -> str:
    """One of pydantic's problems in words; for an unknown key, with the nearest one that is known.

    Args:
        problem: an item of `ValidationError.errors()`.
        where: the keys that lead to it in `model`.
        model: what was to be made.
        whole: what `model` is called, for problems that belong to none of its keys.
    """
    if problem["type"] != "extra_forbidden":
        return f"{'.'.join(where) or whole}: {problem['msg'].removeprefix('Value error, ')}"
    *parents, key = where
    for parent in parents:
        inner = model.model_fields[parent].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        model = inner
    return "".join(f"{parent}: " for parent in parents) + unknown_key(key, list(model.model_fields))


def unknown_key(key: str, known: list[str]) -> str:
    """What to say of a key that a model lacks: the nearest of those it has; if none is near, the first of them."""
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {shorten(', '.join(known), 100, placeholder=' ...')}"
    return f"unknown key {key if len(key) <= LONGEST else key[:LONGEST] + ' ...'}; {hint}"
