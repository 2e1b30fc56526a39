from dataclasses import replace
from pathlib import Path

import pytest

from tests.reproduce.test_plan import parse
from undistill.fit.plan import FitPlan, Training, drawing, row_name
from undistill.fit.request import Request
from undistill.steps import PlanStep, as_line

PAIR = FitPlan(Request(pair="tiny"), 1024, True, 1000, Training("tiny/best", {"precision": "32-true"}), 32, "my-head")
DATA = replace(PAIR, request=Request(data="/pairs"))
FOLDERS = replace(
    PAIR, request=Request(student="/s", teacher=("/t", "/u")), training=Training("flux1", {}, min_side=400)
)


@pytest.mark.parametrize("plan", [PAIR, DATA, FOLDERS], ids=["pair", "data", "folders"])
def test_every_command_can_be_typed(plan: FitPlan) -> None:
    steps = plan.all_steps()
    for step in steps:
        parse(step.command)
        assert step.makes in step.command or step.makes == f"{plan.run}/head/README.md"
    assert len({step.makes for step in steps}) == len(steps)
    verbs = [step.command[0] for step in steps if step.part != "draw"]
    assert verbs == ["evaluate", "train", "enhance", *["evaluate"] * 3, "card"]


def command(plan: FitPlan, verb: str) -> str:
    """The last one of a verb."""
    return [as_line(step) for step in plan.all_steps() if step.command[0] == verb][-1]


def test_no_image_that_is_measured_is_trained_on() -> None:
    assert "--split 0:0.617 " in command(PAIR, "train")
    assert "--set data.val=0.617:0.667" in command(PAIR, "train")
    assert "--split 0.667:1" in command(PAIR, "enhance")
    assert "--split 0.667:1" in command(PAIR, "evaluate")


def test_what_is_asked_reaches_the_commands() -> None:
    request = Request(pair="tiny", domain="A photo of {name}", names="/names.txt")
    prompts, pairs = drawing(request, 300, 32)
    assert as_line(prompts).endswith("--template 'A photo of {name}' --names /names.txt -o prompts.jsonl --overwrite")
    assert "--limit 300 --batch 32" in as_line(pairs)
    assert "--set precision=32-true" in command(PAIR, "train")
    assert "--enhanced my-head=enhanced/tiny-best-1024x1000" in command(PAIR, "evaluate")
    assert "--student /s --teacher /t --teacher /u --split 0.667:1 --min-side 400" in command(FOLDERS, "evaluate")
    assert "enhance /s " in command(FOLDERS, "enhance")
    assert "--format png" in command(FOLDERS, "enhance")
    assert not FOLDERS.drawing()


def test_more_of_anything_is_another_command() -> None:
    def steps(plan: FitPlan) -> set[PlanStep]:
        return set(plan.all_steps())

    assert not steps(PAIR) & steps(replace(PAIR, images=2048))
    assert steps(PAIR) & steps(replace(PAIR, steps=2000)) == {*PAIR.drawing(), PAIR.measuring_gap()}


def test_the_row_is_called_as_the_folder(tmp_path: Path) -> None:
    assert row_name(tmp_path / "my-head") == "my-head"
    assert row_name(tmp_path / "student") == row_name(tmp_path / "a=b") == "head"
