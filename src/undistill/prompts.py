"""Prompts: what to generate, with which seed. `prompts.jsonl` holds one a line."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from string import Formatter
from typing import Annotated

from pydantic import Field, ValidationError

from undistill.base.errors import UsageError
from undistill.base.files import AnyPath, replacing
from undistill.base.settings import Strict, explain_all
from undistill.names import draw_names, sample_names

# An id becomes a file name; a seed fits torch's generators.
Id = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=128)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]

PROMPTS_FILE = "prompts.jsonl"
"""The name that a file of prompts has beside what is made of it."""
MOST = 10_000_000
"""Prompts that are made at a time: they are held in memory, some 1 kB each."""
BUSINESS_TEMPLATE = "A professional business portrait"
"""The paper's prompts without names: they differ by seed alone."""


class Prompt(Strict):
    """What to generate, with which seed: a line of `prompts.jsonl`."""

    id: Id
    prompt: str
    name: str = ""
    """The person's name in the prompt, if it has one."""
    seed: Seed


def read_prompts(path: AnyPath) -> list[Prompt]:
    """Read a `prompts.jsonl`: {"id", "prompt", "name", "seed"} a line; or a text file, a prompt a line (`_plain`).

    Empty lines are passed over.

    Raises:
        UsageError: the file can't be read, holds no prompt, or a line of it is none or has another's id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # editors may begin a file with a BOM
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise UsageError(f"prompts {path} can't be read: {reason}") from error
    prompts = _plain(path, lines)
    numbers: dict[str, int] = {}
    if prompts:
        return prompts
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


def _plain(path: AnyPath, lines: Sequence[str]) -> list[Prompt]:
    """The prompts of a text file, with the ids and seeds of `make_prompts`; none of what is, or should be, JSON lines.

    A file of another name than .jsonl or .json whose first line is no JSON object.
    """
    texts = [text for line in lines if (text := line.strip())]
    if not texts or path.suffix.lower() in (".jsonl", ".json") or texts[0].startswith("{"):
        return []
    return numbered(texts, first_seed(0))


def numbered(texts: Sequence[str], seed: int) -> list[Prompt]:
    """Prompts with the ids 000000, 000001, ... and the seeds `seed`, `seed + 1`, ..."""
    return [Prompt(id=f"{i:06d}", prompt=text, seed=seed + i) for i, text in enumerate(texts)]


def make_prompts(template: str, count: int, seed: int, names: Path | None = None, skip: int = 0) -> list[Prompt]:
    """Prompts with the ids 000000, 000001, ..., each of another person; the first of more prompts are the same.

    Args:
        template: the paper's are "A professional portrait of {name}" and "A professional business portrait": without
            {name}, prompts differ by seed alone. {{ and }} are braces.
        names: a file of names; None: Faker's.
        skip: the first so many are left out: ids begin with this number.

    Raises:
        UsageError: the template has another field, or takes no name although `names` are given; too few names, or more
            than `MOST`, skipped ones included.
    """
    if skip + count > MOST:
        raise UsageError(f"{skip + count:,} prompts don't fit in memory: count and skip may come to {MOST:,} together")
    if _takes_name(template):
        wanted = skip + count
        people = (draw_names(wanted, seed) if names is None else sample_names(names, wanted, seed))[skip:]
    elif names is not None:
        raise UsageError(f"the template {template!r} takes no names: write {{name}} into it, or leave out the names")
    else:
        people = [""] * count
    first = first_seed(seed)
    return [
        Prompt(id=f"{i:06d}", prompt=template.format(name=name), name=name, seed=first + i)
        for i, name in enumerate(people, start=skip)
    ]


def first_seed(seed: int) -> int:
    """The seed of the first of `make_prompts`; the others count on from it.

    On the CPU torch looks at the lower 32 bits of a seed alone: among 100,000 drawn seeds some would be the same, among
    consecutive ones none is. The first is hashed, so that the prompts of `seed` 7 and of 8 don't share all but one.
    """
    return int.from_bytes(sha256(f"seeds of {seed}".encode()).digest()[:4])


def _takes_name(template: str) -> bool:
    help = "{name} is the name, {{ and }} are braces"
    if not template.strip():
        raise UsageError(f"the template is empty: {help}")
    try:
        template.encode()
        fields = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise UsageError(f"the template {template!r} can't be read ({error}): {help}") from error
    for field, form, conversion in fields:
        if (field, form, conversion) != ("name", "", None):
            shown = f"{field}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
            raise UsageError(f"the template {template!r} has an unknown field {{{shown}}}: {help}")
    return bool(fields)


def write_prompts(prompts: Sequence[Prompt], path: Path) -> None:
    """Write a `prompts.jsonl`; it is there whole or not at all."""
    with replacing(path) as beside:
        beside.write_bytes(as_lines(prompts))


def as_lines(prompts: Sequence[Prompt]) -> bytes:
    """The bytes of a `prompts.jsonl`."""
    return "".join(f"{prompt.model_dump_json()}\n" for prompt in prompts).encode()
