import json
import sys
from pathlib import Path
from typing import Any

import pytest
from research import figures


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One with a page, and the JSON of its table."""
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    rows = [
        {"row": "`mine`", "gap": {"value": 0.514, "low": 0.4, "high": 0.6, "n": 9}, "saved": 0.123, "ms": 1234.5},
        {"row": "`other`", "gap": "unknown", "saved": 0.5, "ms": [870, 871]},
    ]
    (tmp_path / "docs" / "figures" / "heads.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "README.md").write_text(
        "It closes 0.1<!-- figure: heads/mine/gap --> of it.\n\n<!-- figures: heads -->\n\n"
        "| row | gap | saved | ms |\n| --- | --- | --- | --- |\n"
        "| `mine` | 0.00 [0.00, 0.00] | 9% | 1.0 ms |\n| `other` | | 1.0% | 1 of 2 |\n"
    )
    return tmp_path


def test_figures_are_written_in_the_form_of_the_text(repository: Path) -> None:
    page = repository / "README.md"
    assert "the JSON says\n  | `mine` | 0.51 [0.40, 0.60] | 12% | 1,234.5 ms |" in "\n".join(
        figures.check(page, repository)
    )
    page.write_text(figures.filled(page.read_text(), repository))
    text = page.read_text()
    assert "It closes 0.5<!-- figure: heads/mine/gap --> of it." in text
    assert "| `mine` | 0.51 [0.40, 0.60] | 12% | 1,234.5 ms |\n| `other` | unknown | 50.0% | 870 of 871 |\n" in text
    assert figures.check(page, repository) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("figure: heads/mine/gap", "figure: heads/yours/gap", "no heads/yours/gap"),
        ("figures: heads", "figures: tails", "no docs/figures/tails.json"),
        ("1 of 2", "1", "has 1 figures, its JSON 2"),
        ("| row | gap |", "| row | gain |", "no 'gain' in the JSON's row '`mine`'"),
        ("| `other` | | 1.0% | 1 of 2 |\n", "", "the table has 1 rows, its JSON 2"),
        ("<!-- figures: heads -->\n\n", "", "no JSON holds this table: | row | gap | saved | ms |"),
    ],
)
def test_what_does_not_fit_is_said(repository: Path, old: str, new: str, says: str) -> None:
    page = repository / "README.md"
    page.write_text(page.read_text().replace(old, new))
    assert any(says in fault for fault in figures.check(page, repository))


@pytest.mark.parametrize(
    ("figure", "form", "written"),
    [
        (0.075, "0.00", "0.08"),
        (-0.001, "0.12", "-0.00"),
        (-0.0, "0.12", "0.00"),
        (0.913, "5%", "91%"),
        (12345, "1,000", "12,345"),
        (1028, "928", "1028"),
    ],
)
def test_digits_and_signs(figure: float, form: str, written: str) -> None:
    assert figures.write(figure, form) == written


def test_the_repository_agrees_with_its_json() -> None:
    assert [fault for page in figures.pages(figures.ROOT) for fault in figures.check(page, figures.ROOT)] == []


def test_each_committed_figure_says_where_it_is_from() -> None:
    for path in sorted((figures.ROOT / figures.FIGURES).glob("*.json")):
        found: dict[str, Any] = json.loads(path.read_text())
        assert set(found) >= {"source", "command", "n", "hardware", "date", "rows"}, path.name


OF_EVIDENCE = {
    ("docs/heads.md#heads-for-tiny", "efficientnet-lite0"): ("heads-tiny", "gap closed"),
    ("docs/heads.md#heads-for-tiny", "alex-2"): ("heads-tiny-validation", "`alex-2`"),
    ("docs/heads.md#ten-runs", "alex-2"): ("ten-runs", "gap closed, `alex-2`"),
}


def test_what_fit_chooses_by_is_what_the_docs_say() -> None:
    evidence = json.loads((figures.ROOT / "src" / "undistill" / "fit" / "evidence.json").read_text())
    for table in evidence["tables"]:
        place = table["source"], table["features"]
        name, heading = OF_EVIDENCE.get(place, ("flux1-variants", f"`{table['features']}`"))
        said = [figures.numbers(row[heading]) for row in figures.load(name, figures.ROOT)]
        assert table["rows"]
        for row in table["rows"]:
            assert row["gap_closed"] in said, (place, row)


def test_rows_are_written_with_how_they_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/research/gap.py", "--student", "DIR"])
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    rows: list[figures.Row] = [{"row": "`a`", "gap": {"value": 0.5}}, {"row": "`b`", "gap": 1}]
    figures.write_rows(rows, tmp_path / "docs" / "figures" / "gap.json", "9 images")
    assert figures.load("gap", tmp_path) == rows
    about = json.loads((tmp_path / "docs" / "figures" / "gap.json").read_text())
    assert about["command"] == "python -m research.gap --student DIR"
    assert about["n"] == "9 images"
    assert len((tmp_path / "docs" / "figures" / "gap.json").read_text().splitlines()) == 11
