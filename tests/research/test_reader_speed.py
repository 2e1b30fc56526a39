import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from research.reader_speed import main

from tests.training.test_run import settings


@pytest.mark.parametrize("mode", ["paired", "unpaired"])
def test_prints_what_reader_and_training_give(
    mode: str, pairs_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings(mode, accumulate=2)))
    main(tmp_path / "recipe.yaml", pairs_folder("pairs", 8), steps=3, device="cpu")
    rows = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|$", capsys.readouterr().out, re.MULTILINE))
    reader, training, ratio = (float(rows[name]) for name in ("reader", "training", "ratio"))
    assert min(reader, training) > 0
    assert ratio == pytest.approx(reader / training, rel=0.1)
