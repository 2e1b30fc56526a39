import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from research.enhance_speed import main


def test_prints_the_parts_and_the_whole(
    image_folder: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    main(image_folder("in", 2), rounds=2, backend="contiguous", out=tmp_path / "speed.json")
    said = capsys.readouterr().out
    rows = re.findall(r"^\| ([a-z ]+, \d threads?) \| ([\d.]+) \| ([\d.]+) \|$", said, re.MULTILINE)
    parts = [f"{part}, {threads}" for threads in ("1 thread", "2 threads") for part in ("decode", "head", "encode")]
    assert [part for part, *_ in rows] == [*parts, "all of it, 2 threads"]
    assert all(float(rate) > 0 for _, rate, _ in rows)
    assert "`flux1` by contiguous, 2 images, 2 rounds" in said
    assert re.search(r"\d+%, \d+% of its slowest part; \d+%, \d+% of its parts one after another$", said, re.MULTILINE)
    written = json.loads((tmp_path / "speed.json").read_text())
    assert [row["part"] for row in written["rows"]] == [part for part, *_ in rows]
