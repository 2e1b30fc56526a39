"""Makes the `dataset.json` of a pairs data set anew, and its prompts, from the shards that are whole."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from undistill.base.errors import Failure, UsageError
from undistill.base.files import AnyPath, fetched, replacing
from undistill.base.lock import locked
from undistill.base.progress import progressed
from undistill.dataset.shard import (
    DESCRIPTION,
    Description,
    Sealed,
    ShardError,
    read_description,
    read_sealed,
    shard_numbers,
    shard_path,
)
from undistill.dataset.write import write_description
from undistill.pairs.create import TIMINGS, describe, read_timings
from undistill.pairs.spec import PairSpec, read_spec, shipped_pairs
from undistill.prompts import PROMPTS_FILE, Prompt, as_lines, read_prompts


def recover(
    folder: AnyPath, pair: PairSpec | None = None, shard_size: int | None = None, batch: int | None = None
) -> tuple[Description, list[str]]:
    """Write the description that the data set had. What shards and files don't tell has to be given.

    Args:
        pair: its pair spec; None: the shipped one that the shards were drawn with.
        shard_size: None: as the places of the rows say.
        batch: None: as `timings.csv` says.

    Returns: the description, and what is wrong with shards that are broken.

    Raises:
        UsageError: there is nothing to recover, something that isn't known must be given, or what was given is not so.
        Failure: no shard is whole, or they don't belong together.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    with locked(folder):
        _refuse_described(folder)
        whole, broken = _read_shards(folder)
        spec = _pair_of(folder, whole, pair)
        prompts = _prompts_of(folder, whole)
        size = _agreed("--shard-size", _shard_size(folder, whole, prompts), shard_size, 256)
        _refuse_misplaced(folder, whole, prompts, size)
        lines = as_lines(prompts)
        description = describe(spec, prompts, lines, size, _agreed("--batch", _batch(folder, whole), batch, 4))
        with replacing(folder / PROMPTS_FILE) as beside:
            beside.write_bytes(lines)
        write_description(folder, description)
    return description, list(broken.values())


def _refuse_described(folder: AnyPath) -> None:
    try:
        data = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(data, dict) and (data.get("version") != 1 or "pairs" in data):
        read_description(folder)  # it says that it is newer, or of enhanced images
    with suppress(UsageError):
        read_description(folder)
        raise Failure(f"{folder / DESCRIPTION} is there, and can be read: `undistill pairs verify {folder}` checks it")


def _read_shards(folder: AnyPath) -> tuple[dict[int, Sealed], dict[int, str]]:
    """Those that are whole, and what is wrong with the others."""
    whole: dict[int, Sealed] = {}
    broken: dict[int, str] = {}
    for number in progressed("reading shards", shard_numbers(folder)):
        try:
            whole[number] = read_sealed(shard_path(folder, number))
        except ShardError as error:
            broken[number] = str(error)
    if not whole:
        raise Failure(f"{folder} holds no whole shard to recover {DESCRIPTION} from")
    first = next(iter(whole))
    for number, sealed in whole.items():
        if not sealed.images >= {"student", "teacher"}:
            raise UsageError(f"{shard_path(folder, number)} holds no pairs, but {', '.join(sorted(sealed.images))}")
        if sealed.spec != whole[first].spec:
            raise Failure(
                f"{shard_path(folder, first)} and {shard_path(folder, number)} were drawn with different pairs: take "
                "those away that don't belong here"
            )
    return whole, broken


def _pair_of(folder: AnyPath, whole: Mapping[int, Sealed], given: PairSpec | None) -> PairSpec:
    wanted = next(iter(whole.values())).spec
    if given is not None:
        if given.hash() != wanted:
            raise UsageError(f"the shards of {folder} were not drawn with the pair {given.name}: give another --pair")
        return given
    for spec in map(read_spec, shipped_pairs()):
        if spec.hash() == wanted:
            return spec
    raise UsageError(f"the shards of {folder} were drawn with a pair that is not shipped: give its file, --pair FILE")


def _prompts_of(folder: AnyPath, whole: Mapping[int, Sealed]) -> list[Prompt]:
    if (folder / PROMPTS_FILE).is_file():
        return read_prompts(folder / PROMPTS_FILE)
    missing = next((number for number in range(max(shard_numbers(folder)) + 1) if number not in whole), None)
    if missing is not None:
        raise UsageError(
            f"{folder / PROMPTS_FILE} is missing, and without a whole {shard_path(folder, missing).name} its prompts "
            "can't be known: put one of the two back"
        )
    texts = [row for sealed in whole.values() for row in sealed.texts]
    return [Prompt(id=id, prompt=prompt, name=name, seed=seed) for id, prompt, name, seed in texts]


def _shard_size(folder: AnyPath, whole: Mapping[int, Sealed], prompts: Sequence[Prompt]) -> int | None:
    """None where the only shard holds all rows: it might have held more."""
    places = {prompt.id: place for place, prompt in enumerate(prompts)}
    for number, sealed in whole.items():
        first = sealed.texts[0][0]
        if first not in places:
            raise Failure(f"{shard_path(folder, number)} holds other prompts than {PROMPTS_FILE}: put that one back")
        if number:
            return max(1, places[first] // number)
        if len(sealed.texts) < len(prompts):
            return len(sealed.texts)
    return None


def _refuse_misplaced(folder: AnyPath, whole: Mapping[int, Sealed], prompts: Sequence[Prompt], size: int) -> None:
    rows = [(prompt.id, prompt.prompt, prompt.name, prompt.seed) for prompt in prompts]
    for number, sealed in whole.items():
        if sealed.texts != rows[number * size : (number + 1) * size]:
            raise Failure(
                f"{shard_path(folder, number)} does not hold the rows that {PROMPTS_FILE} has there, at {size} a shard"
            )


def _batch(folder: AnyPath, whole: Mapping[int, Sealed]) -> int | None:
    """None where the times don't say: there are none, or those of several tries, or shards of one batch alone."""
    try:
        with fetched(folder / TIMINGS) as here:
            timings = read_timings(here)
    except (UsageError, OSError):
        return None
    found = set()
    for number, sealed in whole.items():
        ids = [id for id, *_ in sealed.texts]
        images = {timing.first: timing.images for timing in timings if timing.shard == shard_path(folder, number).name}
        batch = images.get(ids[0], len(ids))
        if images and set(images) != set(ids[::batch]):
            return None
        if batch < len(ids):
            found.add(batch)
    return found.pop() if len(found) == 1 else None


def _agreed(option: str, known: int | None, given: int | None, usual: int) -> int:
    if known is None and given is None:
        raise UsageError(
            f"the shards don't say what {option} `undistill pairs create` was given: give it here ({usual} unless told)"
        )
    if known is not None and given not in (None, known):
        raise UsageError(f"{option} {given} is not what the data set was drawn with: {known}")
    return known or given or usual
