from pathlib import Path

import pytest

from tests.cli.conftest import Run
from undistill.base.files import SAMPLES


def test_refuses_stores_and_another_engines_options(tmp_path: Path, undistill: Run) -> None:
    for words, arguments in (
        ("s3:/faces/x: enhance works on folders of a file system", ("s3://faces/x", "-o", tmp_path / "out")),
        ("s3:/faces/x: enhance works on folders of a file system", (tmp_path, "-o", "s3://faces/x")),
        ("--workers goes with --engine ray", (tmp_path, "-o", tmp_path / "out", "--workers", 2)),
        ("--gpus-per-worker go with --engine ray", (tmp_path, "-o", tmp_path / "out", "--gpus-per-worker", 1)),
    ):
        code, _, errors = undistill("enhance", *arguments)
        assert code == 2
        assert len(errors.splitlines()) == 1
        assert words in errors
    assert not list(tmp_path.iterdir())


def test_the_shipped_portraits(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert undistill("enhance")[::2] == (
        2,
        "undistill: nothing to enhance: name images or folders, or take --samples\n",
    )
    assert undistill("enhance", "--samples")[:2] == (None, "8 enhanced, 0 done before -> enhanced\n")
    names = sorted(path.name for path in (tmp_path / "enhanced").glob("*.webp"))
    assert names == sorted(path.name for path in SAMPLES.iterdir())


def test_an_empty_argument_is_no_folder(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (("", "-o", "out"), ("--samples", "-o", ""), ("--samples", "--out=")):
        assert undistill("enhance", *arguments)[::2] == (2, "undistill: an argument is empty: is a variable not set?\n")
    assert not list(tmp_path.iterdir())


def test_another_head_does_not_overwrite(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert undistill("enhance", "--samples", "--strength", 0)[0] is None
    code, _, errors = undistill("enhance", "--samples", "--strength", 0.5)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "made by flux1 at strength 0.0: choose another folder for -o, or replace it with --overwrite" in errors
    assert undistill("enhance", "--samples", "--strength", 0.5, "--overwrite")[0] is None


def test_results_may_lie_in_a_folder_called_like_the_head(
    undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for done in ("8 enhanced, 0 done before", "0 enhanced, 8 done before"):
        assert undistill("enhance", "--samples", "-o", "flux1")[:2] == (None, f"{done} -> flux1\n")
