from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give --pair; or, to begin later, --data"),
        (["--pair", "tiny", "--data", "x"], "give --pair; or, to begin later, --data"),
        (["--student", "x"], "give --pair; or, to begin later, --data"),
        (["--data", "x", "--count", "9"], "--count, --names and --domain go with --pair"),
        (["--data", "x", "--domain", "A photo of {name}"], "--count, --names and --domain go with --pair"),
        (["--pair", "tiny", "--names", "nobody.txt"], "--names nobody.txt: there is no such file"),
        (["--pair", "tiny", "--budget", "soon"], "--budget soon: write a time like 8h"),
        (["--pair", "tiny", "--count", "9"], "--count 9 is too small to measure anything"),
        (["--pair", "nothing"], "no pair 'nothing'"),
        (["--data", "nothing"], "is no pairs data set"),
    ],
)
def test_refuses_in_one_line(arguments: list[str], says: str, undistill: Run, tmp_path: Path) -> None:
    code, _, error = undistill("fit", *arguments, "-o", tmp_path / "mine")
    assert code == 2
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def test_the_plan_for_flux_needs_nothing(undistill: Run, tmp_path: Path) -> None:
    code, said, error = undistill("fit", "--pair", "flux1", "--count", 2000, "--plan", "-o", tmp_path / "plan")
    assert not code, error
    assert "Download: 57.5 GB" in said
    assert "Images: 2,000 pairs of flux1, 512 px: 666 to measure on" in said
    assert "Recipe: flux1: it closed 0.66 [0.43, 0.88] of the gap" in said
    assert "flux1-512/24gb" in said
    assert "none of it is measured on a GPU" in said
    assert not (tmp_path / "plan").exists()


def test_without_the_licence_nothing_is_begun(undistill: Run, tmp_path: Path) -> None:
    code, _, error = undistill("fit", "--pair", "flux1", "--count", 2000, "-o", tmp_path / "mine")
    assert code in (1, 2)  # or this machine's memory is too small
    assert "accept its licence" in error or "GB of memory are too few" in error
    assert not (tmp_path / "mine").exists()
