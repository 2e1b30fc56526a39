import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undistill.enhance.tiles import mirrored, spans, weights


@given(st.integers(1, 9000), st.integers(2, 40), st.integers(0, 5), st.sampled_from([4, 24, 32]))
def test_tiles_cover_everything_with_weight_1(length: int, core: int, halo: int, multiple: int) -> None:
    core, halo = core * multiple, halo * multiple
    ramp = min(halo // 2, core // 8)
    total = torch.zeros(length)
    before = 0
    for span in spans(length, core, halo, ramp, multiple):
        assert span.begin == before
        assert span.begin % multiple == span.start % multiple == 0
        assert 0 <= span.start <= span.first < span.last <= span.stop <= length
        assert span.end - span.begin <= core + multiple
        total[span.first : span.last] += weights(span, length, ramp)
        before = span.end
    assert before == length
    assert torch.allclose(total, torch.ones(length))


@pytest.mark.parametrize(("length", "expected"), [(3, [0, 1, 2, 2, 1, 0, 0, 1]), (1, [0] * 8)])
def test_mirrors_again_and_again(length: int, expected: list[int]) -> None:
    assert mirrored(0, 8, length).tolist() == expected
