import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from research.tiny.checks import correlation, embed, gap_values, likeness, nearest, to_real

from undistill.images import Pixels, to_tensor
from undistill.losses import LPIPS


def textures(count: int, seed: int) -> Pixels:
    """Coarse colours, no two alike, under fine grain."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC))
        images.append((smooth + random.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(images)


def blurred(images: Pixels) -> Pixels:
    return np.stack([np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1))) for image in images])


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_squared_distances_of_embeddings_are_lpips(seed: int) -> None:
    a, b = textures(2, seed)
    right = LPIPS()(to_tensor(a[None]), to_tensor(b[None]))
    assert torch.allclose((embed(a[None]) - embed(b[None])).square().sum(), right, rtol=1e-4)


def test_a_copy_is_found_though_mirrored() -> None:
    faces = textures(5, 1)
    images = np.stack([faces[3], faces[1][:, ::-1], textures(1, 2)[0]])
    distances = nearest(images, faces)
    assert distances[:2] == pytest.approx([0, 0], abs=1e-4)
    assert distances[2] > 0.05


def test_the_same_image_is_nearer_than_a_stranger() -> None:
    teacher = textures(8, 1)
    found = likeness(blurred(teacher), teacher)
    assert found["own"].high is not None
    assert found["strangers"].low is not None
    assert found["own"].high < found["strangers"].low


def test_a_blurred_student_is_far_and_an_equal_one_is_not() -> None:
    teacher, others, reference = textures(24, 1), textures(24, 2), textures(24, 3)
    far, equal = gap_values(blurred(teacher), teacher, reference), gap_values(others, teacher, reference)
    assert far["difference"].low is not None
    assert far["difference"].low > 0
    assert equal["difference"].low is not None
    assert equal["difference"].high is not None
    assert equal["difference"].low < 0 < equal["difference"].high
    assert "ratio" not in far


def test_images_of_few_pixels_are_farther_from_real_ones() -> None:
    known, real, near = (np.stack([large(image) for image in textures(24, seed)]) for seed in (1, 2, 3))
    few = np.stack([large(image[::8, ::8]) for image in textures(24, 4)])
    found = to_real(few[:, ::4, ::4], near, known, real)
    assert found["teacher"].low is not None
    assert found["student"].low is not None
    assert found["teacher"].value is not None
    assert found["teacher"].low < 0.1 * found["student"].low
    assert found["student"].low > found["teacher"].value


def large(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC))


def test_correlation_against_a_known_value() -> None:
    x = np.array([1.0, 2, 3, 4, 5])
    found = correlation(x, np.array([2.0, 1, 4, 3, 5]))
    assert found.value == pytest.approx(0.8)
    assert found.low == pytest.approx(-0.28, abs=0.01)  # tanh(atanh(0.8) - 1.96 / sqrt(2))
    assert found.high == pytest.approx(0.986, abs=0.001)
