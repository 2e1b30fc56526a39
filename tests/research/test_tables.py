import json
from pathlib import Path

import pytest
from research.figures import fill_table, load
from research.tables import cell_of, main

from undistill.base.errors import UsageError

TABLE = """| size, px | way | median | 95% interval | saved | 95% interval |
| --- | --- | --- | --- | --- | --- |
| 512 | student, then `flux1` | 1,881 ms | 1,800 ms to 2,001 ms | 47% | 44% to 49% |
| 64 | teacher | 22.0 ms | 21.8 ms to 22.6 ms | | |
"""


@pytest.mark.parametrize(
    ("text", "cell"),
    [("1,881 ms", 1881), ("22.0 ms", 22.0), ("47%", 0.47), ("44% to 49%", [0.44, 0.49]), ("-0.5", -0.5)]
    + [(words, words) for words in ("", "64 of 70", "cyclegan-published", "11%, why")],
)  # fmt: skip
def test_a_cell_is_figures_or_words(text: str, cell: object) -> None:
    assert cell_of(text) == cell


def test_a_printed_table_is_what_its_rows_fill(tmp_path: Path) -> None:
    (tmp_path / "docs/figures").mkdir(parents=True)
    (tmp_path / "bench.md").write_text(f"On two cores.\n\n{TABLE}\nAnd more.\n")
    main(tmp_path / "bench.md", ["ways"], "6 rounds", tmp_path / "docs/figures")
    rows = load("ways", tmp_path)
    assert rows[0]["95% interval (2)"] == [0.44, 0.49]
    assert fill_table(TABLE, rows) == TABLE
    assert json.loads((tmp_path / "docs/figures/ways.json").read_text())["n"] == "6 rounds"
    with pytest.raises(UsageError, match="holds 1 tables, and 2 names"):
        main(tmp_path / "bench.md", ["ways", "more"], "", tmp_path)
