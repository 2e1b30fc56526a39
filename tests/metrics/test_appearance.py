import numpy as np
import pytest
import torch

from undistill.metrics.appearance import BANDS, NAMES, appearance


def wave(cycles: int) -> torch.Tensor:
    x = torch.from_numpy(np.sin(2 * np.pi * cycles * np.arange(224) / 224).astype(np.float32))
    return (0.5 * x).expand(1, 3, 224, 224)


def named(crops: torch.Tensor) -> dict[str, float]:
    return dict(zip(NAMES, appearance(crops)[0].tolist(), strict=True))


def test_light_and_colour_by_hand() -> None:
    red = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(2, 3, 224, 224)
    found = named(red)
    assert found["luminance"] == pytest.approx(0.299 + 0.587 / 2, abs=1e-4)
    assert found["saturation"] == pytest.approx(1)
    assert found["contrast"] == pytest.approx(0, abs=1e-5)
    assert found["a*"] == pytest.approx(43.1, abs=0.5)  # (255, 128, 0): CIELAB 67, 43, 74
    assert found["b*"] == pytest.approx(74, abs=1)
    assert named(wave(20))["contrast"] == pytest.approx(0.25 / np.sqrt(2), abs=1e-3)


@pytest.mark.parametrize(("low", "high"), BANDS)
def test_a_wave_falls_into_its_band(low: int, high: int) -> None:
    found = named(wave((low + high) // 2))
    shares = {band: found[f"{band[0]}-{band[1]}"] for band in BANDS}
    assert max(shares, key=shares.__getitem__) == (low, high)
    assert shares[low, high] == pytest.approx(0, abs=0.05)
