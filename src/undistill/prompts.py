"""Prompts: what to generate, with which seed. `prompts.jsonl` holds one a line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from undistill.errors import UsageError
from undistill.settings import Strict, explain_all

# An id becomes a file name; a seed fits torch's generators.
Id = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=128)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Prompt(Strict):
    id: Id
    prompt: str
    name: str = ""
    """The person's name in the prompt, if it has one."""
    seed: Seed


def read_prompts(path: Path) -> list[Prompt]:
    """Read a `prompts.jsonl`: {"id", "prompt", "name", "seed"} a line; empty lines are passed over.

    Raises:
        UsageError: the file can't be read, holds no prompt, or a line of it is none or has another's id.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"prompts {path} can't be read: {error.strerror if isinstance(error, OSError) else error}"
        ) from error
    prompts: list[Prompt] = []
    numbers: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompt = Prompt.model_validate_json(line)
        except ValidationError as error:
            reason = explain_all(error, Prompt, "prompt")
            raise UsageError(f"prompts {path}, line {number}: {reason}") from error
        if prompt.id in numbers:
            raise UsageError(f"prompts {path}, line {number}: id {prompt.id} is line {numbers[prompt.id]}'s already")
        numbers[prompt.id] = number
        prompts.append(prompt)
    if not prompts:
        raise UsageError(f"prompts {path}: no prompt inside")
    return prompts


def numbered(texts: Sequence[str], seed: int) -> list[Prompt]:
    """Prompts with the ids 000000, 000001, ... and the seeds `seed`, `seed + 1`, ..."""
    return [Prompt(id=f"{i:06d}", prompt=text, seed=seed + i) for i, text in enumerate(texts)]
