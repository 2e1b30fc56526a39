"""What all verbs share."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from undistill.training import shipped_recipes

VERBS = "demo,prompts,generate,pairs,enhance,train,recipes,sweep,evaluate,diversity,bench,judge,reproduce,doctor"


@pytest.mark.parametrize("verb", [[], ["pairs"], ["sweep"]])
def test_alone_it_helps(verb: list[str], undistill: Run) -> None:
    code, said, errors = undistill(*verb)
    assert not code
    assert "Commands" in said
    assert errors == ""


def test_h_is_help_for_every_verb(undistill: Run) -> None:
    for words in ("", *VERBS.split(","), "pairs create", "sweep report"):
        short, long = undistill(*words.split(), "-h"), undistill(*words.split(), "--help")
        assert not short[0]
        assert short == long
        assert f"undistill {words}" in short[1]  # before it, with `python -m pytest`, stands "python -m pytest."


def test_what_is_piped_has_a_line_a_thing(undistill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = undistill("recipes")[1].splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())


def test_quiet_before_and_behind_the_verb(undistill: Run, tmp_path: Path) -> None:
    out = tmp_path / "prompts.jsonl"
    assert undistill("prompts", "--count", 2, "-o", out)[1] == f"2 prompts -> {out}\n"
    for arguments in (["--quiet", "prompts"], ["prompts", "--quiet"]):
        assert undistill(*arguments, "--count", 2, "-o", out) == (None, "", "")
    code, said, errors = undistill("--quiet", "prompts", "--count", 2, "-o", tmp_path)
    assert (code, said) == (2, "")
    assert "is no file" in errors
    assert undistill("prompts", "--count", 2, "-o", out)[1] != ""
    assert "--quiet" in undistill("--quiet")[1]
    folder = tmp_path / "out"  # behind -- it is a prompt
    assert "no pair 'nothing'" in undistill("generate", "--pair", "nothing", "-o", folder, "--", "--quiet")[2]
