from typing import Any

import pytest

from tests.report.made_up import null, results, value
from undistill.report.verdict import gap_missing, judge


@pytest.mark.parametrize(
    ("head", "blur", "identity", "outcome", "instead"),
    [
        (value(0.58, 0.50, 0.66), value(0.12, 0.01, 0.23), 0.98, "better", None),
        (value(0.30, 0.10, 0.50), value(0.12, 0.01, 0.23), 0.98, "no better", "blur"),
        (value(0.30, -0.1, 0.70), value(-0.5, -0.6, -0.4), 0.98, "no better", None),  # nothing closes anything
        (value(0.58, 0.50, 0.66), value(0.12, 0.01, 0.23), 0.969, "changes people", "blur"),
        (value(0.58, 0.50, 0.66), value(0.12, 0.01, 0.23), None, "better", None),
    ],
)
def test_a_head_is_judged_by_its_intervals(
    head: dict[str, Any], blur: dict[str, Any], identity: float | None, outcome: str, instead: str | None
) -> None:
    rows = results(head, blur)["rows"]
    rows["mine"]["identity"] = null("no faces") if identity is None else value(identity)
    verdict = judge(rows, "mine")
    assert (verdict.outcome, verdict.instead, verdict.experimental) == (outcome, instead, outcome != "better")
    assert ("Identity is 0.969, below 0.97" in verdict.says) == (outcome == "changes people")


def test_with_several_extractors_two_must_see_a_gain() -> None:
    gain, none = (results(value(0.58, 0.50, 0.66), value(0.12, 0.01, 0.23))["rows"] for _ in range(2))
    gain["mine"]["identity"] = none["mine"]["identity"] = value(0.99)
    none["mine"]["gap_closed"] = value(0.1, 0.0, 0.2)
    assert judge(gain, "mine", {"appearance": gain, "alex-2": none}).outcome == "better"
    assert judge(none, "mine", {"appearance": gain, "alex-2": gain}).outcome == "better"
    verdict = judge(gain, "mine", {"appearance": none, "alex-2": none})
    assert (verdict.outcome, verdict.instead) == ("no better", "blur")
    assert "Seen by appearance it closes 10% (95% interval 0% to 20%), the best filter (blur) 12%" in verdict.says
    assert verdict.says.endswith("Of 3 extractors 1 sees a gain; it takes 2.")


def test_a_gap_that_one_extractor_cannot_see_may_be_seen_by_two_others() -> None:
    gain, blind = (results(value(0.58, 0.50, 0.66), value(0.12, 0.01, 0.23))["rows"] for _ in range(2))
    gain["mine"]["identity"] = blind["mine"]["identity"] = value(0.99)
    for row in blind.values():
        row["gap_closed"] = null("student and teacher can't be told apart by these images")
    verdict = judge(blind, "mine", {"appearance": gain, "alex-2": gain})
    assert verdict.outcome == "better"
    assert verdict.says.startswith("The gap can't be told from noise")
    assert judge(blind, "mine", {"appearance": blind}).outcome == "no gap"


def test_without_a_gap_nothing_is_said_of_the_head() -> None:
    why = "student and teacher can't be told apart by these images"
    rows = results(null(why), null(why))["rows"]
    rows["colour"]["gap_closed"] = null(why)
    assert gap_missing(rows) == why
    assert judge(rows, "mine").outcome == "no gap"
    assert gap_missing(results()["rows"]) is None


def test_faces_that_are_lost_and_identity_that_nobody_measured_are_told() -> None:
    rows = results(value(0.58, 0.50, 0.66), value(0.12, 0.01, 0.23))["rows"]
    rows["mine"] |= {"identity": value(0.99), "faces_missing": value(2, n=100)}
    assert judge(rows, "mine").outcome == "better"
    assert "not measured" not in judge(rows, "mine").says
    rows["mine"]["faces_missing"] = value(4, n=100)
    verdict = judge(rows, "mine")
    assert verdict.outcome == "changes people"
    assert verdict.says.startswith("Of 100 faces 4 are lost")
    rows["mine"] |= {"identity": null("no dlib"), "faces_missing": null("no dlib")}
    assert judge(rows, "mine").says.endswith("Identity was not measured.")
