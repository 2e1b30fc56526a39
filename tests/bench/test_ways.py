from pathlib import Path

import pytest

from undistill.base.errors import Failure
from undistill.bench.ways import cost_rows, measure_ways
from undistill.enhance import Enhancer
from undistill.heads import UNet
from undistill.pairs.generator import Generator
from undistill.pairs.spec import read_spec


def test_heads_and_teacher_come_after_the_student_and_are_compared_round_by_round() -> None:
    # The machine was three times as slow in the second round: shares don't show it.
    seconds = {"student": [1.0, 3.0, 1.0], "mine": [1.0, 3.0, 1.0], "teacher": [7.0, 21.0, 7.0]}
    rows = cost_rows(seconds, {"broken": "no memory"})
    assert {name: rows[name]["seconds"].value for name in seconds} == {"student": 1.0, "mine": 2.0, "teacher": 8.0}
    assert rows["mine"]["seconds_mean"].value == pytest.approx(10 / 3)
    assert rows["mine"]["share"].value == 0.5
    assert rows["mine"]["saved"].value == 0.75
    assert rows["student"]["saved"].value == 0.875
    assert rows["teacher"]["saved"].why == "is the row itself"
    assert rows["broken"] == {"seconds": rows["broken"]["seconds"]}
    assert rows["broken"]["seconds"].why == "no memory"
    alone = cost_rows({"student": [1.0], "mine": [1.0]}, {"teacher": "no weights"})
    assert alone["mine"]["saved"].why == "no teacher: no weights"


@pytest.fixture
def generator(miniature: Path) -> Generator:
    return Generator(read_spec(miniature), "cpu")


def test_a_pair_is_timed_at_the_size_of_its_spec(generator: Generator) -> None:
    generator = generator.at_size(64)
    rows = measure_ways(generator, {"mine": Enhancer(UNet(width=4, depth=2), "cpu")}, 2, 60.0)
    assert list(rows) == ["student", "mine", "teacher"]
    for row in rows.values():
        assert row["seconds"].value is not None
        assert row["seconds"].n == 2
    assert 0 < (rows["mine"]["share"].value or 0) < 1


def test_a_teacher_that_cannot_be_had_costs_its_row_alone(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> object:
        raise Failure("weights can't be had")

    monkeypatch.setattr(generator, "teacher", missing)
    rows = measure_ways(generator, {}, 1, 60.0)
    assert rows["teacher"]["seconds"].why == "weights can't be had"
    assert rows["student"]["seconds"].value is not None
    monkeypatch.setattr(generator, "student", missing)
    rows = measure_ways(generator, {}, 1, 60.0)
    assert {row["seconds"].why for row in rows.values()} == {"weights can't be had"}
