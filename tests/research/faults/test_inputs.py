"""Broken files through the command line, a few of them: `python -m research.faults` goes on without end."""

import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from research.faults import inputs
from research.faults.corpus import Case, write_corpus
from research.faults.inputs import try_case

import undistill.images.read


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    folder = tmp_path_factory.mktemp("corpus") / "whole"
    return folder, write_corpus(folder)


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_broken_file_is_one_line(corpus: tuple[Path, list[Case]], tmp_path: Path, data: st.DataObject) -> None:
    folder, cases = corpus
    case, seed = data.draw(st.sampled_from(cases)), data.draw(st.integers(0, 2**32 - 1))
    assert try_case(case, folder, tmp_path / "copy", seed) is None, f"{case} {seed}"


def test_whole_files_are_no_fault(
    corpus: tuple[Path, list[Case]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "mutated", lambda data, *_: data)
    for case in corpus[1]:
        codes: list[Any] = []
        with monkeypatch.context() as patched:
            patched.setattr(inputs, "wrong_words", lambda code, _, codes=codes: codes.append(code))
            assert try_case(case, corpus[0], tmp_path / "copy", 0) is None
        assert codes in ([None], [0]), case


def test_faults_are_found(corpus: tuple[Path, list[Case]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    folder, cases = corpus
    case = next(case for case in cases if case.file == "names.txt")
    with monkeypatch.context() as patched:
        patched.setattr("undistill.prompts.make_prompts", careless)
        found = {try_case(case, folder, tmp_path / "copy", seed) for seed in range(4)}
    assert any(wrong and wrong.startswith("traceback: ZeroDivisionError") for wrong in found), found
    case = next(case for case in cases if case.file == "images/plain.png")
    for hang in (_work, signal.pause):
        with monkeypatch.context() as patched:
            patched.setattr(inputs, "PATIENCE_S", 0.2)
            patched.setattr(undistill.images.read, "set_apart", lambda _, hang=hang: hang())
            assert try_case(case, folder, tmp_path / "copy", 0) == "took more than 0.2 s"


def _work() -> None:
    while True:
        pass
