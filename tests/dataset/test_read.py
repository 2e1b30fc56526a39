import pickle
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from undistill.dataset.read import Consecutive, Cropping, TrainingCrops, ValidationCrops, cropped
from undistill.dataset.samples import list_files, list_sides
from undistill.dataset.shard import Pairs

Folders = Callable[..., Path]
ALL = (0.0, 1.0)


def test_cuts_the_middle_at_native_scale() -> None:
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    crop = cropped(pixels, Cropping(crop=4), None)
    assert torch.allclose(crop.permute(1, 2, 0), torch.from_numpy(pixels[2:6, 1:5].astype(np.float32)) / 127.5 - 1)


@pytest.mark.parametrize("size", [(50, 80), (80, 50), (33, 33)])
def test_resizes_the_shorter_side(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 255, np.uint8)
    assert torch.equal(cropped(pixels, Cropping(crop=64, size=64), None), torch.ones(3, 64, 64))


def test_varies_within_bounds() -> None:
    pixels = np.full((40, 40, 3), 128, np.uint8)
    values = [
        (cropped(pixels, Cropping(32, gamma=0.1, colour=0.05), np.random.default_rng(seed))[:, 0, 0] + 1) / 2
        for seed in range(200)
    ]
    low, high = (128 / 255) ** 1.1 * 0.95, (128 / 255) ** (1 / 1.1) * 1.05
    assert low <= min(float(value.min()) for value in values) < low + 0.02
    assert high - 0.02 < max(float(value.max()) for value in values) <= high


def test_mirrors_every_other_one() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16] = 255
    crops = [cropped(pixels, Cropping(32, flip=True), np.random.default_rng(seed)) for seed in range(100)]
    assert 30 < sum(float(crop[0, 0, 0]) > 0 for crop in crops) < 70


def test_an_epoch_shows_every_image_once_on_each_side(image_folder: Folders) -> None:
    student = list_files([image_folder("student", 7)], ALL)
    teacher = list_files([image_folder("teacher", 5)], ALL)
    run = TrainingCrops(student, teacher, Cropping(72), seed=3, paired=False)
    crops = [run[k] for k in range(10)]
    assert len({x.numpy().tobytes() for x, _ in crops[:7]}) == 7
    assert len({y.numpy().tobytes() for _, y in crops[:5]}) == 5
    # Each side has its own order: the partners change.
    assert len({(x.numpy().tobytes(), y.numpy().tobytes()) for x, y in crops}) == 10


def test_a_pair_is_cut_alike(image_folder: Folders) -> None:
    samples = list_files([image_folder("student", 6)], ALL)
    run = TrainingCrops(samples, samples, Cropping(32, flip=True, gamma=0.2, colour=0.1), seed=0, paired=True)
    assert all(torch.equal(*run[k]) for k in range(12))


def test_the_order_depends_on_nothing_but_the_seed(image_folder: Folders) -> None:
    samples = list_files([image_folder("student", 6)], ALL)
    run = TrainingCrops(samples, samples, Cropping(32, flip=True), seed=0, paired=False)
    straight = [x for x, _ in DataLoader(run, 2, sampler=Consecutive(0, 12))]
    resumed = [x for x, _ in DataLoader(run, 2, sampler=Consecutive(6, 12), num_workers=2)]
    assert all(torch.equal(a, b) for a, b in zip(islice(straight, 3, None), resumed, strict=True))
    other = TrainingCrops(samples, samples, Cropping(32, flip=True), seed=1, paired=False)
    assert not torch.equal(run[0][0], other[0][0])


@given(
    batch=st.integers(1, 5),
    ranks=st.integers(1, 5),
    steps=st.integers(1, 4),
    first=st.integers(0, 40),
    rest=st.integers(0, 24),
)
def test_ranks_share_each_step_and_lose_nothing(batch: int, ranks: int, steps: int, first: int, rest: int) -> None:
    per_step = batch * ranks
    last = first + steps * per_step + rest % per_step
    orders = [Consecutive(first, last, batch, rank, ranks) for rank in range(ranks)]
    shares = [list(order) for order in orders]
    assert [len(order) for order in orders] == [len(share) for share in shares]
    assert sorted(k for share in shares for k in share) == list(range(first, last))
    for step in range(steps):
        seen = [k for share in shares for k in share[step * batch : (step + 1) * batch]]
        assert seen == list(range(first + step * per_step, first + (step + 1) * per_step))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_epoch_over_ranks_has_every_row_once(ranks: int, pairs_folder: Folders) -> None:
    source = Pairs(pairs_folder("pairs", 12))
    run = TrainingCrops(*list_sides(source, ALL), Cropping(72), seed=1, paired=True)
    share = 6 // ranks
    loaders = [DataLoader(run, share, sampler=Consecutive(0, 12, share, rank, ranks)) for rank in range(ranks)]
    seen = [x.numpy().tobytes() for loader in loaders for batch, _ in loader for x in batch]
    assert len(seen) == len(set(seen)) == 12


@pytest.mark.parametrize("paired", [True, False])
def test_pairs_are_read_alike_everywhere(paired: bool, pairs_folder: Folders) -> None:
    source = Pairs(pairs_folder("pairs", 6))
    run = TrainingCrops(*list_sides(source, ALL), Cropping(64, flip=True), seed=0, paired=paired)
    crops = [run[k] for k in range(12)]
    assert all(torch.allclose(x, -y, atol=1e-6) for x, y in crops) == paired
    forked = DataLoader(run, 2, sampler=Consecutive(0, 12), num_workers=2)
    spawned = pickle.loads(pickle.dumps(run))  # what a spawned loader process is given
    for k, (x, y) in enumerate(forked):
        for place in range(2):
            for a, b, c in zip(crops[2 * k + place], spawned[2 * k + place], (x[place], y[place]), strict=True):
                assert torch.equal(a, b)
                assert torch.equal(a, c)


def test_validation_has_every_student_image_once(image_folder: Folders) -> None:
    student = list_files([image_folder("student", 5)], ALL)
    teacher = list_files([image_folder("teacher", 2)], ALL)
    held_out = ValidationCrops(student, teacher, Cropping(72))
    assert len(held_out) == 5
    first = np.asarray(Image.open(student[0].path))[:, 4:76]
    assert torch.allclose(held_out[0][0], torch.from_numpy(first.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1)
