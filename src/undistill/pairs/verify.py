"""Re-reads pairs data sets, and draws again what is broken."""

from hashlib import sha256

from undistill.base.engines import Engine
from undistill.base.errors import Failure, UsageError
from undistill.base.files import AnyPath
from undistill.base.lock import locked
from undistill.base.progress import progressed
from undistill.dataset.shard import Description, ShardError, check_shard, finished_shards, read_description, shard_path
from undistill.pairs.create import GeneratorMaker, draw_shards
from undistill.pairs.spec import PairSpec, make_spec
from undistill.prompts import PROMPTS_FILE, Prompt, read_prompts


def verify(folder: AnyPath) -> dict[int, str]:
    """Re-read all of a pairs data set.

    Returns:
        The numbers of the broken and the missing shards, and what is wrong with each.

    Raises:
        UsageError: it is no pairs data set, or holds shards that are none of its own.
        Failure: its description or its prompts have changed.
    """
    description, _, prompts = _read(folder)
    finished_shards(folder, description)
    broken: dict[int, str] = {}
    for number in progressed("verifying", range(description.shards)):
        span, path = description.span(number), shard_path(folder, number)
        wanted = [(prompt.id, prompt.prompt, prompt.name, prompt.seed) for prompt in prompts[span.start : span.stop]]
        try:
            if check_shard(path, description.spec) != wanted:
                raise ShardError(f"{path} holds other prompts than {PROMPTS_FILE}")
        except ShardError as error:
            broken[number] = str(error)
    return broken


def repair(folder: AnyPath, numbers: list[int], maker: GeneratorMaker, engine: Engine) -> None:
    """Draw shards again: the bytes they had, on the same kind of machine.

    Raises:
        UsageError, Failure: see `undistill.pairs.create.create`.
    """
    with locked(folder):
        description, _, prompts = _read(folder)
        draw_shards(folder, description, prompts, numbers, maker, engine)


def pair_of(folder: AnyPath) -> PairSpec:
    """The spec that a data set was drawn with."""
    return _read(folder)[1]


def _read(folder: AnyPath) -> tuple[Description, PairSpec, list[Prompt]]:
    description = read_description(folder)
    again = "give the same `undistill pairs create` again, which puts it back"
    try:
        spec = make_spec(description.pair)
    except UsageError as error:
        raise UsageError(f"{folder}: dataset.json: pair: {error}") from error
    path = folder / PROMPTS_FILE
    if not path.is_file():
        raise Failure(f"{path} is missing: {again}")
    if sha256(path.read_bytes()).hexdigest() != description.prompts:
        raise Failure(f"{path} has changed: {again}")
    prompts = read_prompts(path)
    if spec.hash() != description.spec or len(prompts) != description.rows:
        raise Failure(f"{folder}/dataset.json has changed: {again}")
    return description, spec, prompts
