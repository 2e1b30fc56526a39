import re
from collections.abc import Callable
from pathlib import Path

import pytest
from research.fresh_faces import main


def test_a_row_for_each_number_draw_and_way(
    image_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image_folder("faces/schnell", 6, size=(64, 64))
    folder = image_folder("faces/sdxl", 12, size=(64, 64), seed=1).parent
    main(folder, draws=2, images=[6])
    rows = [line for line in capsys.readouterr().out.splitlines() if re.match(r"\| \d", line)]
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| 6", draw, way] for draw in "12" for way in ("same", "cross-fitted")
    ]
    assert all(row.endswith("| too few |") for row in rows)
