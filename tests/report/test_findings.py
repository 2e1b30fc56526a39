from collections.abc import Sequence
from typing import Any

import pytest

from tests.report.made_up import null, value
from undistill.report import findings

MINUS = "\N{MINUS SIGN}"
NOTHING = null("can't be told apart")


def found(
    *closed: dict[str, Any], filtered: Sequence[dict[str, Any]] = (value(0.10, 0.05, 0.15),), others: int = 0
) -> dict[str, Any]:
    """Comparisons in which our head closes so much, the other heads nothing, and the best filter 10% (5% to 15%)."""
    heads = ["ours", *(f"other-{number}" for number in range(others))]
    baselines = {name: {"gap_closed": figure} for name, figure in zip(("blur", "sharpen"), filtered, strict=False)}
    return {
        "settings": {"heads": heads, "timed": "a-head", "size": 64},
        "paper": {"cost": {"saved": 0.82}},
        "quality": [
            {
                "features": f"net-{place % 2}",
                "draw": place // 2 + 1,
                "found": {
                    "rows": {
                        "student": {},
                        **{name: {"gap_closed": value(0, -0.1, 0.1)} for name in heads[1:]},
                        "ours": {"gap_closed": gap},
                        **baselines,
                        "teacher": {},
                    }
                },
            }
            for place, gap in enumerate(closed)
        ],
        "bench": {"cost": {"64": {"a-head": {"saved": value(0.9, 0.88, 0.92)}}}},
    }


@pytest.mark.parametrize(
    ("closed", "says"),
    [
        (
            [value(0.5, 0.2, 0.8)] * 4,
            "Yes, in part. ours closes more of the gap than any filter and than nothing, in all",
        ),
        ([value(0.5, 0.2, 0.8), *[value(0.2, 0.1, 0.3)] * 3], "Not settled. Of 4 comparisons"),
        ([value(0.5, -0.1, 1.1)] * 4, "Not shown. No head"),
        ([value(-0.5, -0.8, -0.2)] * 4, "Not shown. No head"),
        ([NOTHING] * 4, "Not shown. No head"),
    ],
)
def test_what_can_be_learned_is_what_filters_cannot_do_each_time(closed: list[dict[str, Any]], says: str) -> None:
    assert findings.learnable(found(*closed)).startswith(says)


def test_a_head_that_wins_sometimes_is_counted() -> None:
    closed = value(0.5, 0.2, 0.8), *[value(0.2, 0.1, 0.3)] * 3
    alone, says = (findings.learnable(found(*closed, others=others)) for others in (0, 2))
    assert "ours in 1." in alone
    assert "ours in 1; the other heads in none." in says
    assert "net-0, first draw: ours 50% (20% to 80%)" in says


def test_a_head_has_to_beat_every_filter_the_uncertain_ones_too() -> None:
    sure, unsure = value(0.10, 0.05, 0.15), value(0.0, -0.5, 0.5)
    assert findings.learnable(found(*[value(0.5, 0.2, 0.8)] * 4, filtered=[sure, unsure])).startswith("Not shown.")


@pytest.mark.parametrize(
    ("closed", "says"),
    [
        (value(0.9, 0.7, 1.1), "Similar: yes"),
        (value(0.2, 0.0, 0.4), "Similar: no"),
        (value(0.9, -0.1, 1.9), "Similar: not settled"),
        (NOTHING, "Similar can't be said"),
    ],
)
def test_similar_is_as_near_as_the_teacher(closed: dict[str, Any], says: str) -> None:
    text = findings.similar(found(*[closed] * 4))
    assert "Cheaper: 90% (95% interval 88% to 92%) of the teacher's time is saved at 64 px (the paper: 82%)." in text
    assert says in text


def test_similar_is_not_settled_where_extractors_differ() -> None:
    assert "Similar: not settled" in findings.similar(found(value(0.9, 0.7, 1.1), value(0.2, 0.0, 0.4)))


def test_entropies_rise_fall_or_do_neither() -> None:
    def measured(low: float, high: float) -> dict[str, Any]:
        known = {f"{name}_entropy": value(0.5) for name in ("gender", "age")}
        return {
            "diversity": {
                "rows": {group: {**known, "distance": value(0.1)} for group in ("business", "names")},
                "differences": {
                    "names": {
                        **{f"{name}_entropy": value(0.1, low, high) for name in ("gender", "age")},
                        "ethnicity_entropy": null("nobody estimates it"),
                        "distance": value(0.1, low, high),
                    }
                },
                "tests": {"names": {name: {"p_entropy": 0.031} for name in ("gender", "age")}},
            }
        }

    up, down, neither = (
        findings.diversity_sentences(measured(*span)) for span in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))
    )
    for sentences, says in ((up, "names raise it"), (down, "names lower it"), (neither, "no effect of names is seen")):
        assert [says in sentence for sentence in sentences] == [True, True, False, True]
    assert sentences[2] == "Perceived ethnicity: not measured (nobody estimates it)."
    assert "p 0.031" in sentences[0]


def row(ssim: float, psnr: float, kid: float) -> dict[str, Any]:
    return {"ssim_student": value(ssim), "psnr_student": value(psnr), "kid_teacher": value(kid)}


def test_blur_shows_what_ssim_is_worth() -> None:
    heads = {"mine": row(0.97, 38, 0.002), "other": row(0.98, 39, 0.003)}
    assert "better by SSIM than 2, by PSNR than 2 of the 2 rows" in findings.blur(
        {**heads, "blur": row(0.99, 40, 0.02)}
    )
    assert findings.blur({**heads, "blur": row(0.99, 40, 0.02)}).endswith("as the paper says.")
    assert findings.blur({**heads, "blur": row(0.9, 30, 0.02)}).endswith("That doesn't show the paper's claim.")
    one_of_each = {"mine": row(0.97, 38, 0.002), "other": row(0.995, 41, 0.03)}
    assert findings.blur({**one_of_each, "blur": row(0.99, 40, 0.02)}).endswith("as the paper says.")
    nearer = {"mine": row(0.97, 38, 0.03), "other": row(0.995, 41, 0.002)}
    assert findings.blur({**nearer, "blur": row(0.99, 40, 0.02)}).endswith("That doesn't show the paper's claim.")


def ablated(grad: tuple[float, float], l1: tuple[float, float], none: float) -> dict[str, Any]:
    return {
        "pairwise": {"gap_closed": value(sum(grad) / 2, *grad), "blur_effect": value(0.38, 0.37, 0.39)},
        "ablation-l1": {"gap_closed": value(sum(l1) / 2, *l1), "blur_effect": value(0.38, 0.37, 0.39)},
        "ablation-none": {"gap_closed": value(-4, -5, -3), "blur_effect": value(none, none - 0.01, none + 0.01)},
    }


def test_the_ablation_is_judged_by_its_intervals() -> None:
    assert "L1 does better than GRAD" in findings.ablation(ablated((-1, -0.5), (0, 0.2), 0.38))
    assert "L1 does worse than GRAD" in findings.ablation(ablated((0.3, 0.5), (0, 0.2), 0.38))
    same = findings.ablation(ablated((0.1, 0.5), (0, 0.2), 0.38))
    assert "L1 can't be told from GRAD" in same
    assert same.endswith("is not seen: the intervals overlap.")
    assert findings.ablation(ablated((0.1, 0.5), (0, 0.2), 0.3)).endswith("is not seen: it is sharper.")
    assert findings.ablation(ablated((0.1, 0.5), (0, 0.2), 0.5)).endswith("is seen.")


def test_fd_diff_misleads_where_its_best_row_went_away() -> None:
    rows = {"mine": {"fd_diff": value(0.5), "gap_closed": value(0.2, 0.1, 0.3)}, "student": {}}
    away = {"ablation-none": {"fd_diff": value(0.6), "gap_closed": value(-4.8, -5.9, -3.7)}}
    assert (
        findings.fd_diff(rows, {}) == "The best row by FD_diff is mine (0.50); it closes 20% (10% to 30%) of the gap."
    )
    assert "LPIPS alone (0.60, stored: on other people)" in findings.fd_diff(rows, away)
    assert findings.fd_diff(rows, away).endswith("FD_diff alone misleads.")


def test_agreement_is_told_by_draw_and_by_extractor() -> None:
    pairs = [(["x", 1], ["x", 2], 0.9), (["x", 1], ["y", 1], 0.5), (["x", 2], ["y", 1], -1.0)]
    ranking = {"agreement": [{"of": of, "to": to, "tau": tau} for of, to, tau in pairs]}
    says = findings.agreement({"ranking": ranking})
    assert "0.90 between the two draws" in says
    assert "0.50 between the two extractors" in says
    assert "1.00" not in says
    assert findings.agreement({"ranking": {"agreement": []}}) == "Too few rows to compare rankings."
