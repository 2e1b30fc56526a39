from pathlib import Path

import pytest

from undistill.bench.memory import cpu_peaks
from undistill.heads import ResnetGenerator


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_peak_of_a_process_grows_with_the_image(tmp_path: Path) -> None:
    ResnetGenerator(width=16, blocks=1).save_pretrained(tmp_path / "head")
    peaks = cpu_peaks(str(tmp_path / "head"), [64, 512])
    # The stem alone gives 16 channels of 512 x 512 floats, 17 MB, and holds its input beside its output.
    assert 34 < (peaks[512, "fp32"].value or 0) < 400
    assert 0 <= (peaks[64, "fp32"].value or 0) < (peaks[512, "fp32"].value or 0) / 4
    assert peaks[512, "compiled"].why == "not measured: the compiler takes more than the head"


def test_a_process_that_fails_leaves_its_last_words() -> None:
    (value, *_) = cpu_peaks("no-such-head", [64]).values()
    assert value.value is None
    assert "no head 'no-such-head'" in (value.why or "")
