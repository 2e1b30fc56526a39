import json

import pytest

from tests.cli.conftest import Run
from undistill import doctor
from undistill.doctor import examine


@pytest.mark.parametrize("width", [60, 80])
def test_the_verb_prints_all_of_it(width: int, undistill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    code, said, errors = undistill("doctor")
    assert (code, errors) == (None, "")
    assert max(map(len, said.splitlines())) <= width
    words = " ".join(said.split())
    for found in (each for each in examine() if each.part == "extras"):
        for text in (found.says, found.costs, found.remedy):
            assert " ".join(text.split()) in words
    code, said, _ = undistill("doctor", "--format", "json")
    assert (code, json.loads(said)["extras"]["ray"]["there"]) == (None, False)
