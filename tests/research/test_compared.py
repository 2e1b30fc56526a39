import json
from pathlib import Path

import pytest
from research.compared import compared

from undistill.base.errors import UsageError


def evaluation(path: Path, gap: float, *heads: str) -> None:
    measured = {key: {"value": gap, "low": 0.0, "high": 1.0} for key in ("gap_closed", "lpips_student", "identity")}
    settings = {"enhanced": dict.fromkeys(heads, "out"), "images": {"student": 9, "teacher": 5}}
    rows = {head: measured | {"age_drift": {"value": None}} for head in heads}
    path.write_text(json.dumps({"settings": settings, "rows": rows}))


def test_a_row_is_what_each_extractor_says(tmp_path: Path) -> None:
    evaluation(tmp_path / "alex-2.json", 0.5, "mine")
    evaluation(tmp_path / "alex-4.json", 0.7, "mine")
    row, images = compared("as it is", tmp_path, ["alex-2", "alex-4"])
    assert images == {"student": 9, "teacher": 5}
    assert [row["`alex-2`"], row["`alex-4`"]] == [{"value": gap, "low": 0.0, "high": 1.0} for gap in (0.5, 0.7)]
    assert row["identity to the student"] == {"value": 0.5, "low": 0.0, "high": 1.0}


def test_a_folder_of_several_heads_is_refused(tmp_path: Path) -> None:
    evaluation(tmp_path / "alex-2.json", 0.5, "mine", "yours")
    with pytest.raises(UsageError, match="is of 2 heads"):
        compared("", tmp_path, ["alex-2"])
    with pytest.raises(UsageError, match="json is missing"):
        compared("", tmp_path, ["alex-4"])
