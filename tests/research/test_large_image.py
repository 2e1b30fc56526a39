"""Very large images by every backend, small."""

import json
import re
from pathlib import Path

import pytest
from research.large_image import main


def test_a_row_for_each_head_and_backend(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(head=["tiny-best"], side=1024, backend=["torch", "nothing"], out=tmp_path)
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "| 1024 x 1024 px: head | backend | seconds | peak, MB |"
    assert re.fullmatch(r"\| tiny-best \| torch \| \d+ \| \d+ \|", rows[2])
    assert int(rows[2].split()[-2]) >= 3 * 1024**2 * 2 / 1e6  # the image, and the result
    assert rows[3].startswith("| tiny-best | nothing | ValueError: backend 'nothing': take one of")
    written = {
        name: json.loads((tmp_path / name).read_text())["rows"]
        for name in ("large-image.json", "large-image-seconds.json")
    }
    assert [row["backend"] for some in written.values() for row in some] == ["torch", "nothing"] * 2
    assert written["large-image.json"][0]["`tiny-best`"] == int(rows[2].split()[-2])
