"""Very large images by every backend, small."""

import re

import pytest
from research.large_image import main


def test_a_row_for_each_head_and_backend(capsys: pytest.CaptureFixture[str]) -> None:
    main(head=["tiny-best"], side=1024, backend=["torch", "nothing"])
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "| 1024 x 1024 px: head | backend | seconds | peak, MB |"
    assert re.fullmatch(r"\| tiny-best \| torch \| \d+ \| \d+ \|", rows[2])
    assert int(rows[2].split()[-2]) >= 3 * 1024**2 * 2 / 1e6  # the image, and the result
    assert rows[3].startswith("| tiny-best | nothing | ValueError: backend 'nothing': take one of")
