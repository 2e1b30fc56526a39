from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("flux1", "-o", "head.pth"), "head.pth: a file of onnx ends with .onnx"),
        (("flux1", "-o", "head.onnx", "--format", "openvino"), "a file of openvino ends with .xml"),
        (("flux1", "-o", "head.onnx", "--calibrate", "."), "--calibrate goes with --precision int8"),
        (("flux1", "-o", "head.onnx", "--calibrate", "no", "--precision", "int8"), "no is no folder"),
        (("nobody", "-o", "head.onnx"), "no head 'nobody'"),
        (("flux1", "-o", "mine.onnx"), "mine.onnx is there and not made by this command"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: tuple[Any, ...], words: str, undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.onnx").write_text("mine")
    code, _, errors = undistill("export", *arguments)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert words in errors
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]
    assert (tmp_path / "mine.onnx").read_text() == "mine"


def test_weights_of_another_are_no_place_for_ours(undistill: Run, tmp_path: Path) -> None:
    (tmp_path / "head.bin").write_text("mine")
    code, _, errors = undistill("export", "flux1", "-o", tmp_path / "head.xml")
    assert (code, "head.bin, where the weights go, is there and not made by this command" in errors) == (2, True)
    assert (tmp_path / "head.bin").read_text() == "mine"
    assert not (tmp_path / "head.xml").exists()
