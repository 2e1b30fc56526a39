from typing import Any

import pytest

from tests.report.made_up import null, results, value
from undistill.report.words import cost_sentence, decimals, gap_sentence, identity_sentence, milliseconds, percent


@pytest.mark.parametrize(
    ("head", "blur", "says"),
    [
        (value(0.58, 0.5, 0.66), value(0.12, 0.01, 0.23), "closes 58% (95% interval 50% to 66%) of the gap"),
        (
            value(0.58, 0.5, 0.66),
            value(0.12, 0.01, 0.23),
            "blur, closes 12% (95% interval 1% to 23%). The intervals lie",
        ),
        (value(0.3, 0.1, 0.5), value(0.2, 0.0, 0.4), "The intervals overlap: it is no better than a filter."),
        (value(0.2, 0.0, 0.4), value(0.3, 0.1, 0.5), "The intervals overlap: it is no better than a filter."),
        (value(0.1, 0.05, 0.15), value(0.4, 0.3, 0.5), "It is worse than a filter."),
        (value(0.1, -0.1, 0.3), value(-0.5, -0.6, -0.4), "which can't be told from nothing"),
        (
            value(-0.4, -0.6, -0.2),
            value(0.1, 0.0, 0.2),
            "moves away from the teacher, by 40% (95% interval 20% to 60%)",
        ),
        (null("too few images", 7), null("too few images", 7), "can't be told from noise: too few images (n = 7)"),
    ],
)
def test_the_gap_in_words(head: dict[str, Any], blur: dict[str, Any], says: str) -> None:
    assert says in gap_sentence(results(head, blur)["rows"], "mine")


def test_only_what_the_intervals_allow_is_claimed() -> None:
    apart = gap_sentence(results(value(0.5, 0.41, 0.59), value(0.3, 0.2, 0.4))["rows"], "mine")
    touching = gap_sentence(results(value(0.5, 0.4, 0.6), value(0.3, 0.2, 0.4))["rows"], "mine")
    assert "does what no such filter does" in apart
    assert "no better than a filter" in touching
    rows = results()["rows"]
    del rows["blur"], rows["colour"]
    assert (
        gap_sentence(rows, "mine")
        == "The head closes 58% (95% interval 50% to 66%) of the gap between student and teacher."
    )


def test_the_person_in_words() -> None:
    rows = results()["rows"]
    assert identity_sentence(rows, "mine").startswith(
        "Of 157 enhanced images with a face, 98% (95% interval 94% to 99%) are nearest"
    )
    assert identity_sentence(rows, "mine").endswith("2 of 159 faces were lost.")
    rows["mine"] = {"identity": null("faces need dlib", 0)}
    assert identity_sentence(rows, "mine") == "Whether it is still the same person was not measured: faces need dlib."
    rows["mine"] = {
        "identity": null("no face found"),
        "identity_rank1": null("no face found"),
        "faces_missing": value(3),
    }
    assert identity_sentence(rows, "mine") == "Whether it is still the same person was not measured: no face found."


def test_the_price_in_words() -> None:
    assert cost_sentence(results()["cost"], "mine") == (
        "An enhanced image takes 10.3 ms, a teacher's 88.1 ms: "
        "88.3% (95% interval 88.1% to 88.5%) of the time is saved."
    )


def test_figures() -> None:
    assert [milliseconds(s) for s in (0.00051234, 0.00712, 0.0881, 0.88123, 2.3456)] == [
        *("0.51 ms", "7.12 ms", "88.1 ms", "881 ms", "2,346 ms")
    ]
    assert [percent(x) for x in (-0.004, -0.071, 0.5)] == ["0%", "\N{MINUS SIGN}7%", "50%"]
    assert decimals(2)(-0.001) == "0.00"
