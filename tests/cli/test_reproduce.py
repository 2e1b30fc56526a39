from pathlib import Path

import pytest

from tests.cli.conftest import Run
from undistill.base.errors import Failure
from undistill.pairs.spec import read_spec
from undistill.training import RECIPES


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pair", "nothing"], "no pair 'nothing'"),
        (["--portraits", "."], "holds no tiles/schnell"),
        (["--train", "nowhere"], "is no folder of recipes"),
        (["--pair", "sdxl-turbo"], "has no head of its own"),
    ],
)
def test_refuses_in_one_line(arguments: list[str], says: str, undistill: Run, tmp_path: Path) -> None:
    code, _, error = undistill("reproduce", *arguments, "-o", tmp_path / "page")
    assert code == 2
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "page").exists()


def test_shipped_recipes_are_found_by_the_name_of_their_folder(
    undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taken: list[Path | None] = []

    def stops(pair: str, out: Path, quick: bool, train: Path | None, *_: object) -> None:
        taken.append(train)

    monkeypatch.setattr("undistill.reproduce.reproduce", stops)
    assert not undistill("reproduce", "--train", "tiny", "-o", "page")[0]
    assert taken == [RECIPES / "tiny"]


def test_a_spec_of_ones_own_has_whole_paths(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    spec = read_spec("tiny").model_copy(update={"head": "mine", "name": "another"})
    (tmp_path / "pair.yaml").write_text(spec.model_dump_json())
    code, _, error = undistill("reproduce", "--pair", "pair.yaml", "-o", "page")
    assert code == 2
    assert f"names mine, which is relative: write {tmp_path / 'mine'}" in error
    assert not (tmp_path / "page").exists()


def test_nobody_elses_folder_is_used(undistill: Run, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    code, _, error = undistill("reproduce", "-o", tmp_path)
    assert code == 2
    assert "holds other files: choose another folder" in error


def test_what_goes_wrong_in_a_command_is_its_own_line(
    undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(count: int, seed: int) -> list[str]:
        raise Failure("names are out")

    monkeypatch.setattr("undistill.prompts.draw_names", fails)
    for begins_at in ("[1 of ", "[2 of "):  # the second time it goes on
        code, _, error = undistill("reproduce", "--quick", "-o", tmp_path / "page")
        assert code == 1
        assert error.startswith(begins_at)
        assert error.endswith("undistill: names are out\n")
