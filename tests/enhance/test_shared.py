from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from undistill.enhance import shared
from undistill.enhance.shared import SharedEnhancer


class Inverse:
    """Stands for an Enhancer."""

    made = 0

    def __init__(self, device: str = "cpu", trained_at: int | None = None) -> None:
        Inverse.made += 1
        self.device = torch.device(device)
        self.head = SimpleNamespace(trained_at=trained_at)
        self.batches: list[int] = []

    def __call__(self, images: Any, strength: float) -> Any:
        self.batches.append(len(images))
        return 255 - images


def test_many_threads_have_one() -> None:
    Inverse.made = 0
    enhancer = SharedEnhancer(Inverse)  # type: ignore[arg-type]
    assert Inverse.made == 0
    images = [np.full((4, 6, 3), shade, np.uint8) for shade in range(20)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda image: enhancer(image, 1.0), images))
    assert Inverse.made == 1
    assert all(np.array_equal(a, 255 - b) for a, b in zip(made, images, strict=True))


@pytest.mark.parametrize(
    ("inverse", "batches"), [(Inverse(), [4, 4, 2]), (Inverse(trained_at=16), [1] * 10), (Inverse("cuda"), [10])]
)
def test_batches_on_a_cpu_are_of_few_pixels(
    inverse: Inverse, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "AT_ONCE", 4 * 8 * 8)
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
    assert np.array_equal(SharedEnhancer(lambda: inverse)(images, 1.0), 255 - images)  # type: ignore[arg-type, return-value]
    assert inverse.batches == batches
