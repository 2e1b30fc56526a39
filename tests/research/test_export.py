"""Exports held against torch, and int8 beside float32: one small head."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from research import export
from research.export import accuracy, speed

from tests.conftest import strong
from undistill.enhance import export as exporting
from undistill.heads import ResnetGenerator


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(exporting, "SIDE", 96)
    monkeypatch.setattr(export, "SIDE", 64)
    monkeypatch.setitem(exporting.LEAST_DB, "bf16", 200)
    strong(ResnetGenerator(4, 1)).save_pretrained(tmp_path / "a-head")
    return str(tmp_path / "a-head")


def test_every_precision_by_both_runtimes(head: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.effect_noise((90, 80), 40 + number).convert("RGB").save(tmp_path / "in" / f"{number}.png")
    accuracy(tmp_path / "in", 2, [head], tmp_path / "export.json")
    printed = capsys.readouterr().out.splitlines()
    written = json.loads((tmp_path / "export.json").read_text())
    rows = {row["precision"]: row for row in written["rows"]}
    assert list(rows) == ["fp32", "fp16", "bf16", "int8"]
    for runtime in ("ONNX Runtime", "OpenVINO"):
        values = [rows[precision][f"{runtime}, portraits"]["value"] for precision in rows]
        assert values[0] >= values[1] > values[2] > 20
        assert "after" not in rows["fp16"][f"{runtime}, samples"]
        assert rows["bf16"][f"{runtime}, samples"]["after"] == ", refused"
    assert len(printed) == 2 + 4
    assert printed[4].count(", refused |") == 2
    assert "and 2 portraits of" in written["n"]


def test_int8_takes_turns_with_float32(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    speed(2, [head])
    rows = capsys.readouterr().out.splitlines()[2:]
    for row, runtime in zip(rows, ("ONNX Runtime", "OpenVINO"), strict=True):
        assert re.fullmatch(rf"\| `.*a-head` \| {runtime} \| [\d.]+ \| [\d.]+ \| [\d.]+ \| 2 \|", row)
