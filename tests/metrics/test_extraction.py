from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from undistill.base.errors import Failure
from undistill.dataset.samples import list_files
from undistill.images import Pixels
from undistill.metrics import extraction
from undistill.metrics.cache import cache_folder
from undistill.metrics.extraction import EvalImage, Extractor, Features, Hashed, extract, one_by_one, row_key

Folders = Callable[..., Path]


class Counting:
    """An extractor that counts the images it is asked about: their mean colour, or that of their twin."""

    def __init__(self, name: str = "mean", compares: bool = False) -> None:
        self.asked = 0
        self.extractor = Extractor(name, self.look, compares)

    def look(self, images: Sequence[EvalImage]) -> list[Features]:
        self.asked += len(images)
        shown = [image.pixels if image.twin is None else image.twin for image in images]
        return [pixels.mean((0, 1), dtype=np.float32)[None] for pixels in shown]


def test_a_set_measured_twice_costs_nothing_the_second_time(image_folder: Folders) -> None:
    samples = list_files([image_folder("in", 9)], (0, 1))
    mean, more = Counting(), Counting("more")
    first = extract("in", samples, [mean.extractor])["mean"]
    assert len(first) == mean.asked == 9
    both = extract("in", samples, [mean.extractor, more.extractor])
    assert np.array_equal(both["mean"], first)
    assert (mean.asked, more.asked) == (9, 9)
    assert len(list((cache_folder() / "rows").iterdir())) == 1

    samples[0].path.write_bytes(samples[1].path.read_bytes())
    changed = extract("in", samples, [mean.extractor])["mean"]
    assert np.array_equal(changed[0], first[1])
    assert mean.asked == 18


def test_what_compares_is_kept_by_its_twins_too(image_folder: Folders) -> None:
    samples = list_files([image_folder("in", 3)], (0, 1))
    twins, others = (list_files([image_folder(name, 3)], (0, 1)) for name in ("twins", "strangers"))
    mean, compared = Counting(), Counting("compared", compares=True)
    wanted = [mean.extractor, compared.extractor]
    seen = extract("in", samples, wanted, twins)
    assert np.array_equal(seen["compared"], extract("twins", twins, [mean.extractor])["mean"])
    mean.asked = compared.asked = 0
    again = extract("in", samples, wanted, others)
    assert not np.array_equal(again["compared"], seen["compared"])
    assert (mean.asked, compared.asked) == (0, 3)


def test_hashed_images_are_read_once_for_their_keys(image_folder: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "CHUNK", 2)
    samples, twins = (list_files([image_folder(name, 3)], (0, 1)) for name in ("in", "twins"))
    hashed = Hashed(twins)
    wanted = [Counting("compared", compares=True).extractor]
    seen = extract("in", samples, wanted, twins)
    keys = row_key(twins), len(hashed.hashes)
    counted = Mock(wraps=sha256)
    monkeypatch.setattr(extraction, "sha256", counted)
    again = extract("in", samples, wanted, hashed)
    assert np.array_equal(again["compared"], seen["compared"])
    assert counted.call_count == 3  # the other images'
    assert (row_key(hashed), 3) == keys


def test_a_killed_run_goes_on_where_a_file_ended(image_folder: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "CHUNK", 4)
    samples = list_files([image_folder("in", 10)], (0, 1))
    mean = Counting()
    extract("in", samples[:8], [mean.extractor])
    assert len(extract("in", samples, [mean.extractor])["mean"]) == mean.asked == 10


def test_sets_of_several_features_an_image_and_of_none(image_folder: Folders) -> None:
    samples = list_files([image_folder("in", 3)], (0, 1))
    counts = iter((2, 0, 1))
    extractor = Extractor("odd", one_by_one(lambda pixels: np.ones((next(counts), 5), np.float32)))
    assert [len(some) for some in extract("in", samples, [extractor])["odd"]] == [2, 0, 1]
    assert [len(some) for some in extract("in", samples, [extractor])["odd"]] == [2, 0, 1]


def test_a_broken_cache_is_mended_and_one_that_cannot_be_written_is_done_without(
    image_folder: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    samples = list_files([image_folder("in", 2)], (0, 1))
    mean = Counting()
    first = extract("in", samples, [mean.extractor])["mean"]
    (kept,) = (cache_folder() / "rows").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-2])
    assert np.array_equal(extract("in", samples, [mean.extractor])["mean"], first)
    assert kept.read_bytes() == whole

    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("UNDISTILL_CACHE", str(tmp_path / "file"))
    assert np.array_equal(extract("in", samples, [mean.extractor])["mean"], first)


def test_a_failure_names_its_image(image_folder: Folders) -> None:
    samples = list_files([image_folder("in", 7)], (0, 1))
    bad = samples[5].path.read_bytes()

    def look(pixels: Pixels) -> Features:
        from undistill.images import decode_rgb

        if np.array_equal(pixels, decode_rgb(bad)):
            raise Failure("is not to my taste")
        return np.ones((1, 1), np.float32)

    with pytest.raises(Failure, match=r"005\.png is not to my taste$"):
        extract("in", samples, [Extractor("picky", one_by_one(look))])
