import re
from collections.abc import Callable
from pathlib import Path

import pytest
from research.enhance_speed import main


def test_prints_the_parts_and_the_whole(image_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    main(image_folder("in", 2), rounds=1)
    rows = re.findall(r"^\| (\w+), \d threads? \| ([\d.]+) \| ([\d.]+) \|$", capsys.readouterr().out, re.MULTILINE)
    assert [part for part, *_ in rows] == ["decode", "head", "encode", "whole"]
    assert all(float(rate) > 0 for _, rate, _ in rows)
