import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from undistill.base.errors import Failure, UsageError
from undistill.steps import PLAN, PlanStep, as_line, begin_plan, run_steps

STEPS = [PlanStep("a", name, ("draw", "-o", name)) for name in ("one", "two", "three")]


class Commands:
    """Notes what it is told to run, and makes the file that it names; stumbles once."""

    def __init__(self, folder: Path, stumbles_at: str = "") -> None:
        self.folder, self.stumbles_at = folder, stumbles_at
        self.ran: list[str] = []

    def __call__(self, command: Sequence[str]) -> None:
        name = command[-1]
        if name == self.stumbles_at:
            self.stumbles_at = ""
            raise Failure("the disk is full")
        self.ran.append(name)
        (self.folder / name).write_text(name)


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out, said = tmp_path / "out", list[str]()
    begin_plan(out, STEPS)
    commands = Commands(out, stumbles_at="two")
    with pytest.raises(Failure, match="disk is full"):
        run_steps(out, STEPS, commands, said.append)
    begin_plan(out, STEPS)
    run_steps(out, STEPS, commands, said.append)
    assert commands.ran == ["one", "two", "three"]
    assert said[0] == "[1 of 3] undistill draw -o one"
    done = json.loads((out / PLAN).read_text())["done"]
    assert list(done) == ["one", "two", "three"]
    assert all(step["seconds"] >= 0 and step["date"] for step in done.values())


def test_the_time_of_a_step_is_that_of_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 200.0, 203.0, 203.0, 204.0, 204.0, 206.0])
    monkeypatch.setattr("undistill.steps.time.monotonic", lambda: next(clock))
    begin_plan(tmp_path, STEPS)
    commands = Commands(tmp_path, stumbles_at="one")
    with pytest.raises(Failure):
        run_steps(tmp_path, STEPS, commands, lambda _: None)
    run_steps(tmp_path, STEPS, commands, lambda _: None)
    done = json.loads((tmp_path / PLAN).read_text())["done"]
    assert [step["seconds"] for step in done.values()] == [103.0, 1.0, 2.0]


def test_it_ends_where_a_step_says_so(tmp_path: Path) -> None:
    begin_plan(tmp_path, STEPS)
    commands = Commands(tmp_path)
    for _ in range(2):
        run_steps(tmp_path, STEPS, commands, lambda _: None, ends=lambda step: step is STEPS[1])
        assert commands.ran == ["one", "two"]


def test_what_was_lost_is_made_again(tmp_path: Path) -> None:
    begin_plan(tmp_path, STEPS)
    commands = Commands(tmp_path)
    run_steps(tmp_path, STEPS, commands, lambda _: None)
    (tmp_path / "two").unlink()
    run_steps(tmp_path, STEPS, commands, lambda _: None)
    assert commands.ran == ["one", "two", "three", "two"]


def test_a_plan_may_grow(tmp_path: Path) -> None:
    begin_plan(tmp_path, STEPS[:2], grows=True)
    commands = Commands(tmp_path)
    run_steps(tmp_path, STEPS[:2], commands, lambda _: None)
    longer = [STEPS[0], PlanStep("a", "two", ("draw", "--more", "-o", "two")), STEPS[2]]
    begin_plan(tmp_path, longer, grows=True)
    run_steps(tmp_path, longer, commands, lambda _: None)
    assert commands.ran == ["one", "two", "two", "three"]
    done = json.loads((tmp_path / PLAN).read_text())["done"]
    assert done["two"]["command"] == "undistill draw --more -o two"


def test_it_never_mixes_two_plans_or_other_files(tmp_path: Path) -> None:
    begin_plan(tmp_path / "out", STEPS)
    with pytest.raises(UsageError, match="begun with other options"):
        begin_plan(tmp_path / "out", STEPS[:2])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_text("")
    with pytest.raises(UsageError, match="holds other files"):
        begin_plan(tmp_path / "mine", STEPS)
    with pytest.raises(UsageError, match="is a file"):
        begin_plan(tmp_path / "mine" / "photo.png", STEPS)
    for broken in (
        "{",
        "[]",
        "{}",
        '{"done": {"one": {}}}',
        '{"done": {"one": 1}}',
        '{"done": {}, "spent": {"one": "x"}}',
    ):
        (tmp_path / "out" / PLAN).write_text(broken)
        with pytest.raises(UsageError, match=r"plan\.json (can't be read|is no plan of ours).*: choose another folder"):
            begin_plan(tmp_path / "out", STEPS)


def test_a_command_is_as_it_is_typed() -> None:
    assert as_line(PlanStep("a", "o", ("prompts", "--template", "A face"))) == "undistill prompts --template 'A face'"
