from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from research.scale import main, octaves


def test_octaves_by_hand() -> None:
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[::2] = 200
    found = octaves(lines)
    assert found[0] == pytest.approx(100, rel=1e-3)  # all of it lies between one pixel and the next
    assert max(found[1:]) == pytest.approx(0, abs=1e-4)
    assert octaves(np.full((64, 64, 3), 90, np.uint8)) == pytest.approx([0, 0, 0], abs=1e-4)


def test_a_row_each_way(image_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    main(image_folder("in", 2), head="tiny-best", count=2)
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| student", "| scale trained", "| scale native"]
    assert float(rows[1].split("|")[6]) > 0
