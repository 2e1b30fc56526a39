from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from undistill.dataset.read import Consecutive, Cut, DataError, Training, Validation, cut_out, list_samples, match
from undistill.dataset.split import within

Folders = Callable[..., Path]
ALL = (0.0, 1.0)


def test_lists_by_split_and_least_side(image_folder: Folders) -> None:
    folder = image_folder("images", 30)
    ids = [sample.id for sample in list_samples([folder], (0.0, 0.5))]
    assert ids == [id for id in (f"{number:03d}" for number in range(30)) if within(id, (0.0, 0.5))]
    image_folder("images/small", 4, size=(40, 60))
    assert len(list_samples([folder], ALL)) == 34
    assert len(list_samples([folder], ALL, min_side=50)) == 30


def test_refuses_folders_without_images(image_folder: Folders, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        list_samples([tmp_path / "gone"], ALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        list_samples([tmp_path / "empty"], ALL)
    with pytest.raises(DataError, match="at least 500 px"):
        list_samples([image_folder("images", 3)], ALL, min_side=500)


def test_matches_by_file_name(image_folder: Folders) -> None:
    student = list_samples([image_folder("student", 5)], ALL)
    teacher = list_samples([image_folder("teacher", 8)], ALL)
    x, y = match(student, teacher[::-1])
    assert [sample.id for sample in x] == [sample.id for sample in y] == [f"{number:03d}" for number in range(5)]
    with pytest.raises(DataError, match="share no file name"):
        match(student, teacher[5:])
    with pytest.raises(DataError, match="only 1 file names are shared by 5 student and 4 teacher"):
        match(student, teacher[4:])
    with pytest.raises(DataError, match="have one name"):
        match(student + teacher, teacher)


def test_cuts_the_middle_at_native_scale() -> None:
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    crop = cut_out(pixels, Cut(crop=4), None)
    assert torch.allclose(crop.permute(1, 2, 0), torch.from_numpy(pixels[2:6, 1:5].astype(np.float32)) / 127.5 - 1)


@pytest.mark.parametrize("size", [(50, 80), (80, 50), (33, 33)])
def test_resizes_the_shorter_side(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 255, np.uint8)
    assert torch.equal(cut_out(pixels, Cut(crop=64, size=64), None), torch.ones(3, 64, 64))


def test_varies_within_bounds() -> None:
    pixels = np.full((40, 40, 3), 128, np.uint8)
    values = [
        (cut_out(pixels, Cut(32, gamma=0.1, colour=0.05), np.random.default_rng(seed))[:, 0, 0] + 1) / 2
        for seed in range(200)
    ]
    low, high = (128 / 255) ** 1.1 * 0.95, (128 / 255) ** (1 / 1.1) * 1.05
    assert low <= min(float(value.min()) for value in values) < low + 0.02
    assert high - 0.02 < max(float(value.max()) for value in values) <= high


def test_mirrors_every_other_one() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16] = 255
    crops = [cut_out(pixels, Cut(32, flip=True), np.random.default_rng(seed)) for seed in range(100)]
    assert 30 < sum(float(crop[0, 0, 0]) > 0 for crop in crops) < 70


def test_an_epoch_shows_every_image_once_on_each_side(image_folder: Folders) -> None:
    student = list_samples([image_folder("student", 7)], ALL)
    teacher = list_samples([image_folder("teacher", 5)], ALL)
    run = Training(student, teacher, Cut(72), seed=3, paired=False)
    crops = [run[k] for k in range(10)]
    assert len({x.numpy().tobytes() for x, _ in crops[:7]}) == 7
    assert len({y.numpy().tobytes() for _, y in crops[:5]}) == 5
    # Each side has its own order: the partners change.
    assert len({(x.numpy().tobytes(), y.numpy().tobytes()) for x, y in crops}) == 10


def test_a_pair_is_cut_alike(image_folder: Folders) -> None:
    samples = list_samples([image_folder("student", 6)], ALL)
    run = Training(samples, samples, Cut(32, flip=True, gamma=0.2, colour=0.1), seed=0, paired=True)
    assert all(torch.equal(*run[k]) for k in range(12))


def test_the_order_depends_on_nothing_but_the_seed(image_folder: Folders) -> None:
    samples = list_samples([image_folder("student", 6)], ALL)
    run = Training(samples, samples, Cut(32, flip=True), seed=0, paired=False)
    straight = [x for x, _ in DataLoader(run, 2, sampler=Consecutive(0, 12))]
    resumed = [x for x, _ in DataLoader(run, 2, sampler=Consecutive(6, 12), num_workers=2)]
    assert all(torch.equal(a, b) for a, b in zip(islice(straight, 3, None), resumed, strict=True))
    other = Training(samples, samples, Cut(32, flip=True), seed=1, paired=False)
    assert not torch.equal(run[0][0], other[0][0])


def test_validation_has_every_student_image_once(image_folder: Folders) -> None:
    student = list_samples([image_folder("student", 5)], ALL)
    teacher = list_samples([image_folder("teacher", 2)], ALL)
    held_out = Validation(student, teacher, Cut(72))
    assert len(held_out) == 5
    first = np.asarray(Image.open(student[0].path))[:, 4:76]
    assert torch.allclose(held_out[0][0], torch.from_numpy(first.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1)
