import numpy as np
import pytest
import torch
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio

from undistill.errors import Failure
from undistill.losses import LPIPS
from undistill.metrics.baselines import Filter, Look
from undistill.metrics.similarity import Comparison

LOOK = Look(np.zeros(3), np.ones(3))
PORTRAIT = astronaut()[:256, 128:384]  # type: ignore[no-untyped-call]
COMPARE = Comparison(PORTRAIT, LPIPS(), torch.device("cpu"))


def test_equal_images() -> None:
    same = COMPARE(PORTRAIT)
    assert same.ssim_student == pytest.approx(1)
    assert same.lpips_student == pytest.approx(0, abs=1e-6)
    assert same.psnr_student > 50


def test_psnr_is_that_of_skimage() -> None:
    noisy = Filter(grain=8)(PORTRAIT, "a", LOOK, LOOK)
    assert COMPARE(noisy).psnr_student == pytest.approx(peak_signal_noise_ratio(PORTRAIT, noisy), abs=0.01)  # type: ignore[no-untyped-call]


def test_only_lpips_minds_blur_more_than_a_shift_of_colour() -> None:
    """What the paper says of SSIM and PSNR."""
    blurred = COMPARE(Filter(blur=2)(PORTRAIT, "a", LOOK, LOOK))
    brighter = COMPARE((PORTRAIT * 0.8 + 25).astype(np.uint8))
    assert blurred.psnr_student > brighter.psnr_student
    assert blurred.lpips_student > brighter.lpips_student


def test_sizes_must_be_equal() -> None:
    with pytest.raises(Failure, match="is 256 x 200 px, its student image 256 x 256"):
        COMPARE(PORTRAIT[:200])
