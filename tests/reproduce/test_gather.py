from typing import Any

from undistill.pairs.spec import read_spec
from undistill.reproduce.gather import ranking, stored
from undistill.reproduce.plan import ABLATION_ROWS


def found(draw: int, features: str, **kids: float) -> dict[str, Any]:
    rows = {name: {"kid_teacher": {"value": kid}} for name, kid in kids.items()}
    return {"draw": draw, "features": features, "found": {"rows": {"student": rows["a"], **rows, "teacher": rows["a"]}}}


def test_rankings_agree_or_not() -> None:
    same = found(1, "x", a=1, b=2, c=3)
    made = ranking([same, found(2, "x", a=10, b=20, c=30), found(1, "y", a=3, b=2, c=1)])
    assert [order["rows"] for order in made["orders"]] == [["a", "b", "c"], ["a", "b", "c"], ["c", "b", "a"]]
    assert [(pair["of"], pair["to"], pair["tau"]) for pair in made["agreement"]] == [
        (["x", 1], ["x", 2], 1.0),
        (["x", 1], ["y", 1], -1.0),
        (["x", 2], ["y", 1], -1.0),
    ]


def test_one_row_has_no_ranking() -> None:
    (pair,) = ranking([found(1, "x", a=1), found(2, "x", a=2)])["agreement"]
    assert pair["tau"] is None


def test_stored_figures_say_where_they_are_from() -> None:
    sweep, ablation = (stored(read_spec("tiny"), what) for what in ("sweep", "ablation"))
    assert sweep
    assert ablation
    for kept in (sweep, ablation):
        assert all(kept["stored"][key] for key in ("what", "command", "commit", "date", "n", "hardware"))
    assert list(sweep["report"]["studies"]) == ["cyclegan", "esa-cyclegan"]
    assert list(ablation["report"]["rows"]) == ["pairwise", *ABLATION_ROWS]
    assert stored(read_spec("flux1"), "sweep") is None
