from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from undistill.base.errors import UsageError
from undistill.dataset import within
from undistill.dataset.samples import (
    DataError,
    ImageFile,
    ImageFolders,
    ShardImage,
    list_files,
    list_shard_images,
    list_sides,
    match,
    open_source,
    pixels_of,
)
from undistill.dataset.shard import Pairs, ShardError, shard_path
from undistill.images import ImageError

Folders = Callable[..., Path]
ALL = (0.0, 1.0)


def test_lists_by_split_and_least_side(image_folder: Folders) -> None:
    folder = image_folder("images", 30)
    ids = [sample.id for sample in list_files([folder], (0.0, 0.5))]
    assert ids == [id for id in (f"{number:03d}" for number in range(30)) if within(id, (0.0, 0.5))]
    image_folder("images/small", 4, size=(40, 60))
    assert len(list_files([folder], ALL)) == 34
    assert len(list_files([folder], ALL, min_side=50)) == 30


def test_refuses_folders_without_images(image_folder: Folders, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        list_files([tmp_path / "gone"], ALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        list_files([tmp_path / "empty"], ALL)
    with pytest.raises(DataError, match="at least 500 px"):
        list_files([image_folder("images", 3)], ALL, min_side=500)


def test_says_which_rule_left_out_how_many(image_folder: Folders) -> None:
    folder = image_folder("images", 30)
    inside = sum(within(f"{number:03d}", (0, 0.4)) for number in range(30))
    first = sum(within(f"{number:03d}", (0, 0.4), 0.5) for number in range(30))
    assert 0 < first < inside < 30
    with pytest.raises(DataError) as error:
        list_files([folder], (0, 0.4), 0.5, min_side=400)
    assert str(error.value) == (
        f"{folder}: no image of 0.5 of the split 0:0.4 with sides of at least 400 px: of 30, {30 - inside} are outside "
        f"the split, {inside - first} are outside the fraction of it, {first} are smaller (min_side)"
    )


def test_an_unreadable_image_is_not_a_small_one(image_folder: Folders) -> None:
    folder = image_folder("images", 3)
    (folder / "001.png").write_bytes(b"no picture")
    assert [sample.id for sample in list_files([folder], ALL, min_side=50)] == ["000", "001", "002"]


def test_matches_by_file_name(image_folder: Folders) -> None:
    student = list_files([image_folder("student", 5)], ALL)
    teacher = list_files([image_folder("teacher", 8)], ALL)
    x, y = match(student, teacher[::-1])
    assert [sample.id for sample in x] == [sample.id for sample in y] == [f"{number:03d}" for number in range(5)]
    with pytest.raises(DataError, match="share no file name"):
        match(student, teacher[5:])
    with pytest.raises(DataError, match="only 1 file names are shared by 5 student and 4 teacher"):
        match(student, teacher[4:])
    with pytest.raises(DataError, match="have one name"):
        match(student + teacher, teacher)


def test_lists_rows_by_split_and_fraction(pairs_folder: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = Pairs(pairs_folder("pairs", 30))
    monkeypatch.setattr("undistill.dataset.shard.Shard.image", None)  # no image is read for it
    for fraction in (1.0, 0.3):
        student, teacher = list_sides(pairs, (0.2, 0.9), fraction)
        expected = [id for id in (f"{i:06d}" for i in range(30)) if within(id, (0.2, 0.9), fraction)]
        assert [sample.id for sample in student] == [sample.id for sample in teacher] == expected
        assert {sample.size for sample in (*student, *teacher)} == {(72, 72)}
    assert [sample.name for sample in list_shard_images(pairs, "teacher", ALL)][::29] == [
        "teacher/000000",
        "teacher/000029",
    ]
    assert len(list_shard_images(pairs, "teacher", ALL, min_side=72)) == 30
    with pytest.raises(
        DataError, match=r"pairs: no image of 1 of the split 0:1 with sides of at least 73 px: of 30, 30 are small"
    ):
        list_shard_images(pairs, "teacher", ALL, min_side=73)


def test_a_cell_is_its_image(pairs_folder: Folders) -> None:
    pairs = Pairs(pairs_folder("pairs", 6))
    student, teacher = list_sides(pairs, ALL)
    assert [sample.read() for sample in teacher] == [row.teacher for row in pairs]
    for x, y, row in zip(student, teacher, pairs, strict=True):
        assert np.array_equal(pixels_of(x), np.asarray(Image.open(BytesIO(row.student))))
        assert np.array_equal(pixels_of(y), 255 - pixels_of(x))
    path = shard_path(pairs.folder, 1)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"IDAT", b"IDLE"))
    with pytest.raises(ImageError, match=r"shard-000001\.parquet: student 000005 is"):
        pixels_of(student[5])
    path.write_bytes(whole.replace(b"PNG", b"GIF"))
    with pytest.raises(ShardError, match=r"shard-000001\.parquet is broken"):
        pixels_of(student[5])
    path.unlink()
    with pytest.raises(ShardError, match=r"shard-000001\.parquet is missing"):
        pixels_of(student[5])


def test_a_file_that_is_gone_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png can't be read: No such file"):
        pixels_of(ImageFile(tmp_path / "gone.png"))
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ImageError, match=r"text\.png is no image"):
        pixels_of(ImageFile(tmp_path / "text.png"))


def test_either_pairs_or_folders(pairs_folder: Folders, tmp_path: Path) -> None:
    folder = pairs_folder("pairs", 2)
    source = open_source(folder, None, [])
    assert isinstance(source, Pairs)
    assert all(isinstance(sample, ShardImage) for side in list_sides(source, ALL) for sample in side)
    assert open_source(None, [tmp_path], [folder]) == ImageFolders([tmp_path], [folder])
    for data, student, teacher in ((None, None, None), (folder, [folder], None), (None, None, [folder])):
        with pytest.raises(UsageError, match="give either --data"):
            open_source(data, student, teacher)
