import re

import pytest
from research.memory import main


def test_prints_the_most_of_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    main(images=20)
    rows = re.findall(r"^\| (\d+) \| (\d+) \|$", capsys.readouterr().out, re.MULTILINE)
    assert [int(tenth) for tenth, _ in rows] == list(range(1, 11))
    assert max(int(most) for _, most in rows) > 100
