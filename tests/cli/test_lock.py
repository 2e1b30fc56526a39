from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from undistill.base.lock import locked


@pytest.mark.parametrize(
    "command",
    [
        ("enhance", "images"),
        ("generate", "A portrait"),
        ("train", "portraits-lite", "--student", "images", "--teacher", "images"),
        ("diversity", "some=images"),
        ("pairs", "create", "--prompts", "prompts.jsonl"),
        ("bench", "--sizes", "64"),
        ("demo",),
        ("reproduce", "--quick"),
    ],
    ids=lambda command: command[0],
)
def test_two_runs_into_one_folder(
    command: tuple[str, ...],
    image_folder: Callable[..., Path],
    undistill: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image_folder("images", 12, size=(400, 400))
    monkeypatch.chdir(tmp_path)
    assert undistill("prompts", "--count", 2, "--seed", 0, "-o", "prompts.jsonl")[0] is None
    with locked(tmp_path / "out"):
        code, _, errors = undistill(*command, "-o", "out")
    assert code == 2
    (line,) = errors.splitlines()
    assert "undistill: another undistill is at work in " in line
    assert not (tmp_path / "out").exists()
