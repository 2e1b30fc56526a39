from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from undistill.base.errors import UsageError
from undistill.cli import app
from undistill.pairs.spec import read_spec
from undistill.reproduce.plan import ABLATION_ROWS, FULL, LORA, QUICK, RunSize, plan_steps, setup_of
from undistill.steps import PlanStep

SIZES = {"full": FULL, "quick": QUICK}
ROOT = Path(__file__).parents[2]
RECIPES = {"tiny": ROOT / "recipes" / "tiny", "flux1": ROOT / "recipes"}


def parse(command: tuple[str, ...]) -> None:
    """What typer does with a command before it runs it; wrong options are raised."""
    group, context, words = get_command(app), typer.Context(get_command(app)), list(command)
    while hasattr(group, "get_command"):
        name = words.pop(0)
        found = group.get_command(context, name)
        assert found is not None, name
        group = found
    assert not group.make_context(command[0], words).args


def steps_of(pair: str, size: RunSize, train: Path | None = None, portraits: Path | None = None) -> list[PlanStep]:
    return plan_steps(read_spec(pair), pair, size, train, portraits)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("pair", ["tiny", "flux1"])
def test_every_command_exists_and_makes_something_of_its_own(pair: str, trained: bool, size: str) -> None:
    steps = steps_of(pair, SIZES[size], RECIPES[pair] if trained else None, Path("portraits"))
    for step in steps:
        parse(step.command)
        assert step.makes in step.command or step.command[:2] == ("sweep", "report")
    assert len({step.makes for step in steps}) == len(steps)


def test_what_a_command_reads_was_made_before_it() -> None:
    made: set[str] = set()
    for step in steps_of("tiny", FULL, RECIPES["tiny"]):
        before = {word.partition("=")[2] or word for word in step.command if step.makes not in word}
        for word in before:
            if word.startswith(("draw-", "runs/", "seen", "business", "names")) and word not in ("business", "names"):
                assert word.removesuffix("/head") in made, (word, step)
        made.add(step.makes)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("pair", ["tiny", "flux1"])
def test_what_is_measured_no_head_has_seen(pair: str, trained: bool) -> None:
    setup = setup_of(read_spec(pair))
    drawn: list[range] = [range(setup.train_on if trained else setup.seen)]
    for step in steps_of(pair, FULL, RECIPES[pair] if trained else None):
        if step.makes.endswith("prompts.jsonl"):
            skip, count = (int(step.command[step.command.index(option) + 1]) for option in ("--skip", "--count"))
            drawn.append(range(skip, skip + count))
    assert len(drawn) == 3
    assert all(one.stop == other.start for one, other in pairwise(drawn))


def test_rows_are_the_papers() -> None:
    steps = steps_of("tiny", FULL)
    measures = [step.command for step in steps if step.command[0] == "evaluate"]
    assert len(measures) == 4
    rows = [word.partition("=")[0] for word in measures[0] if "=" in word]
    assert rows == [LORA, "pairwise", "cyclegan", "esa-cyclegan", "ours"]
    trained = next(step.command for step in steps_of("tiny", FULL, RECIPES["tiny"]) if step.command[0] == "evaluate")
    assert [word.partition("=")[0] for word in trained if "=" in word] == [*rows, *ABLATION_ROWS]
    assert "ours=draw-1/ours" in trained
    (head,) = (s.command for s in steps_of("tiny", FULL, RECIPES["tiny"]) if s.makes == "draw-1/ours")
    assert "runs/ours/head" in head


def test_a_pair_that_nobody_set_up_has_its_own_head_alone() -> None:
    spec = read_spec("tiny").model_copy(update={"name": "another", "head": "tiny-unet"})
    assert dict(setup_of(spec).heads) == {"ours": "tiny-unet"}
    mine = spec.model_copy(update={"head": "/heads/mine"})
    for one, timed in ((spec, ("--heads", "all")), (mine, ("--heads", "all", "--heads", "/heads/mine"))):
        (bench,) = (
            step.command for step in plan_steps(one, "another", QUICK, None, None) if step.command[0] == "bench"
        )
        assert tuple(bench[bench.index("--heads") : bench.index("--rounds")]) == timed
    with pytest.raises(UsageError, match="has no head of its own"):
        plan_steps(spec.model_copy(update={"head": None}), "another", FULL, None, None)


def test_without_recipes_nothing_is_trained() -> None:
    spec = read_spec("tiny")
    with pytest.raises(UsageError, match=r"holds no unet\.yaml"):
        plan_steps(spec, "tiny", FULL, ROOT / "recipes", None)
    with pytest.raises(UsageError, match="no recipes for the pair another"):
        plan_steps(spec.model_copy(update={"name": "another"}), "another", FULL, RECIPES["tiny"], None)
