import numpy as np
import pytest
import torch
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from undistill.base.errors import Failure
from undistill.images import Pixels
from undistill.metrics.baselines import ChannelStatistics, Filter
from undistill.metrics.extraction import EvalImage
from undistill.metrics.similarity import LIKENESS, load_likeness

STATISTICS = ChannelStatistics(np.zeros(3), np.ones(3))
PORTRAIT: Pixels = astronaut()[:256, 128:384]  # type: ignore[no-untyped-call]
LOOK = load_likeness(torch.device("cpu"))


def compare(pixels: Pixels) -> dict[str, float]:
    return dict(zip(LIKENESS, LOOK(pixels, PORTRAIT)[0].tolist(), strict=True))


def changed(filter: Filter) -> Pixels:
    return filter(PORTRAIT, "a", STATISTICS, STATISTICS)


def test_equal_images() -> None:
    same = compare(PORTRAIT)
    assert same["ssim_student"] == pytest.approx(1)
    assert same["lpips_student"] == pytest.approx(0, abs=1e-6)
    assert same["psnr_student"] > 50


def test_psnr_and_ssim_are_those_of_skimage() -> None:
    noisy = changed(Filter(grain=8))
    found = compare(noisy)
    assert found["psnr_student"] == pytest.approx(peak_signal_noise_ratio(PORTRAIT, noisy), abs=0.01)  # type: ignore[no-untyped-call]
    theirs = structural_similarity(  # type: ignore[no-untyped-call]
        PORTRAIT, noisy, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert found["ssim_student"] == pytest.approx(theirs, abs=0.01)


def test_only_lpips_minds_blur_more_than_a_shift_of_colour() -> None:
    """What the paper says of SSIM and PSNR."""
    blurred = compare(changed(Filter(blur=2)))
    brighter = compare((PORTRAIT * 0.8 + 25).astype(np.uint8))
    assert blurred["psnr_student"] > brighter["psnr_student"]
    assert blurred["lpips_student"] > brighter["lpips_student"]


def test_a_batch_of_several_sizes_is_one_after_another() -> None:
    images = [EvalImage(pixels, PORTRAIT[: len(pixels)]) for pixels in (255 - PORTRAIT, PORTRAIT[:100] // 2, PORTRAIT)]
    for together, image in zip(LOOK.look(images), images, strict=True):
        assert together == pytest.approx(LOOK(image.pixels, image.twin), rel=1e-4, abs=1e-6)


def test_sizes_must_be_equal() -> None:
    with pytest.raises(Failure, match="is 256 x 200 px, its student image 256 x 256"):
        compare(PORTRAIT[:200])
