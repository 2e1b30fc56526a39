from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import hair
from undistill.images import read_rgb
from undistill.metrics.periodic import periodic


def grid(stride: int, amplitude: float, side: int = 320) -> torch.Tensor:
    """A faint net: waves of `stride` px along and across."""
    line = torch.sin(torch.arange(side) * 2 * torch.pi / stride + 1) * amplitude
    net = line + line[:, None]
    return net.expand(1, 3, side, side)


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_finds_a_faint_net_in_hair(stride: int) -> None:
    assert float(periodic(hair(320) * 0.5 + grid(stride, 0.2))) > 10
    assert float(periodic(hair(320) * 0.5)) < 1


def test_flat_and_noise_have_none() -> None:
    noise = torch.randn(4, 3, 320, 320, generator=torch.Generator().manual_seed(0)) * 0.2
    assert float(periodic(torch.full((1, 3, 320, 320), 0.3))) == 0.0
    assert float(periodic(noise).max()) < 3


def test_what_8_bits_cannot_hold_does_not_count() -> None:
    assert float(periodic(grid(2, 0.001) + 0.3)) == 0.0


@settings(max_examples=15, deadline=None)
@given(st.integers(64, 300), st.integers(64, 300))
def test_any_size_from_64_px(height: int, width: int) -> None:
    assert periodic(torch.rand(1, 3, height, width)).isfinite().all()


def test_refuses_less() -> None:
    with pytest.raises(ValueError, match="64 px"):
        periodic(torch.zeros(1, 3, 63, 100))


@pytest.mark.shared
def test_real_portraits_have_little(portraits: Path) -> None:
    files = sorted((portraits / "schnell").glob("*.jpg"))[:10]
    values = [
        float(periodic(torch.from_numpy(read_rgb(file).copy()).permute(2, 0, 1)[None] / 127.5 - 1)) for file in files
    ]
    assert sum(values) / len(values) < 4
