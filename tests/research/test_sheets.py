import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from research.sheets import SHOWN, filter_of, main

from undistill.base.errors import UsageError
from undistill.images import read_rgb
from undistill.metrics.baselines import Filter


def portraits(folder: Path, level: int) -> Path:
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (400, 420), (level, level, level + number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Of an evaluation whose folds took the colours of the teacher by 0, a half and all of the way."""
    sides = {"student": [str(portraits(tmp_path / "s", 100))], "teacher": [str(portraits(tmp_path / "t", 50))]}
    baselines = {"colour": [asdict(Filter(match=match)) for match in (0.0, 0.5, 1.0)]}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"settings": {**sides, "min_side": 400, "baselines": baselines}}))
    return path


def test_a_filter_is_the_median_of_its_folds(results: Path) -> None:
    filtered = filter_of(results, "colour")
    assert filtered.filter == Filter(match=0.5)
    assert filtered.student.mean.tolist() == [100, 100, 101]
    assert filtered.teacher.mean.tolist() == [50, 50, 51]


def test_a_column_a_portrait(results: Path, tmp_path: Path) -> None:
    enhanced = portraits(tmp_path / "e", 200)
    main(tmp_path / "s", enhanced, tmp_path / "sheet.png")
    sheet = read_rgb(tmp_path / "sheet.png")
    assert sheet.shape == (2 * SHOWN, 3 * SHOWN, 3)
    assert [int(sheet[y, 0, 0]) for y in (0, SHOWN)] == [100, 200]
    assert np.unique(sheet[0, :, 2]).tolist() == [100, 101, 102]
    (enhanced / "2.png").unlink()
    with pytest.raises(UsageError, match=r"2\.png is missing: undistill enhance"):
        main(tmp_path / "s", enhanced, tmp_path / "sheet.png")
    with pytest.raises(UsageError, match="no group brows: take one of beards"):
        main(tmp_path / "s", enhanced, tmp_path / "sheet.png", group="brows")
    with pytest.raises(UsageError, match="has no filter sharpen: take one of colour"):
        main(tmp_path / "s", enhanced, tmp_path / "sheet.png", results=results, row="sharpen")
