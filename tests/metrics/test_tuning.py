from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from undistill.dataset.samples import ImageFile, list_files, pixels_of
from undistill.images import read_rgb
from undistill.metrics import tuning
from undistill.metrics.baselines import Baseline, ChannelStatistics, Filter
from undistill.metrics.distance import Points
from undistill.metrics.extraction import EvalImage, Extractor, Features, extract
from undistill.metrics.features import load_extractor
from undistill.metrics.tuning import Baselines, filtered, tune, write_baselines

Folders = Callable[..., Path]
STATISTICS = ChannelStatistics(np.zeros(3), np.ones(3))
NAMES = {"sharpen", "grain", "colour", "combined", "blur"}


def bound(filter: Filter) -> Baseline:
    return Baseline(filter, STATISTICS, STATISTICS)


def portraits(folder: Path, numbers: range, blur: bool) -> list[ImageFile]:
    """Noise, or the same blurred."""
    folder.mkdir()
    for number in numbers:
        pixels = np.random.default_rng(number).integers(60, 200, (64, 64, 3), dtype=np.uint8)
        if blur:
            pixels = bound(Filter(blur=0.8))(pixels, "")
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return list_files([folder], (0, 1))


def test_what_the_teacher_does_with_a_filter_is_found_and_nothing_else_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = portraits(tmp_path / "student", range(24), blur=False)
    teachers = portraits(tmp_path / "teacher", range(100, 124), blur=True)
    extractor = load_extractor("alex-1", torch.device("cpu"))
    sides = (students, teachers)
    x, y = (Points.of(side, extract("", side, [extractor])[extractor.name]) for side in sides)
    tuned = tune(sides, (x, y), extractor, apart=True)
    assert len(tuned.parts) == 1
    assert tuned("0")["blur"].filter.blur == pytest.approx(0.8, abs=0.15)
    assert tuned("0")["combined"].filter.sharpen < 0
    assert set(tuned.described) == NAMES

    monkeypatch.setattr(tuning, "search", None)
    again = tune(sides, (x, y), extractor, apart=True)
    assert again.described == tuned.described
    assert np.array_equal(again("0")["colour"].teacher.mean, tuned("0")["colour"].teacher.mean)


def test_what_a_filter_made_of_an_image_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    students = portraits(tmp_path / "student", range(24), blur=False)
    teachers = portraits(tmp_path / "teacher", range(100, 124), blur=True)
    asked: list[bytes] = []

    def look(images: Sequence[EvalImage]) -> list[Features]:
        asked.extend(image.pixels.tobytes() for image in images)
        return [image.pixels[:8, 0].reshape(1, -1).astype(np.float32) for image in images]

    def found(score: Callable[[Filter], float], searched: Callable[[], None]) -> dict[str, Filter]:
        for _ in range(2):
            score(Filter(blur=1))
        assert len(asked) == len(set(asked)) == 10
        return dict.fromkeys(NAMES, Filter(blur=1))

    monkeypatch.setattr(tuning, "search", found)
    monkeypatch.setattr(tuning, "TUNED_ON", 40)
    extractor = Extractor("corner", look)
    x, y = (Points.of(side, [extractor(pixels_of(sample)) for sample in side]) for side in (students, teachers))
    asked.clear()
    tune((students, teachers), (x, y), extractor, apart=True)
    assert len(asked) == len(set(asked)) == 2 * 24  # all, blurred and as they are


def test_without_other_images_each_half_gets_filters_tuned_on_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = portraits(tmp_path / "student", range(12), blur=False)
    teachers = portraits(tmp_path / "teacher", range(12), blur=True)
    seen: list[set[str]] = []

    def note(
        sides: tuple[list[ImageFile], list[ImageFile]], points: tuple[Points, Points], *_: object
    ) -> dict[str, Baseline]:
        ids = [{sample.id for sample in side} for side in sides]
        assert ids == [set(side.ids) for side in points] == [ids[0], ids[0]]  # the two of a pair go together
        seen.append(ids[0])
        return {"blur": bound(Filter(blur=len(seen)))}

    monkeypatch.setattr(tuning, "_known", note)
    x, y = (Points([sample.id for sample in side], np.ones((12, 1, 3), np.float32)) for side in (students, teachers))
    tuned = tune((students, teachers), (x, y), load_extractor("alex-1", torch.device("cpu")), apart=False)
    assert len(seen[0]) == len(seen[1]) == 6
    assert not seen[0] & seen[1]
    for sample in students:
        used = int(tuned(sample.id)["blur"].filter.blur) - 1
        assert sample.id not in seen[used]
    assert [filter["blur"] for filter in tuned.described["blur"]] == [1, 2]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_baselines_are_files_like_the_students_own(
    suffix: str, image_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = list_files([image_folder("in", 5, suffix=suffix)], (0, 1))
    tuned = Baselines([{"grain": bound(Filter(grain=3)), "blur": bound(Filter(blur=1))}])
    written = write_baselines(students, tuned, tmp_path / "out")
    assert set(written) == {"grain", "blur"}
    for sample, file in zip(students, written["grain"], strict=True):
        assert np.array_equal(read_rgb(file.path), filtered(sample, tuned(sample.id)["grain"]))
        plain = tuned(sample.id)["grain"](read_rgb(sample.path), sample.id)
        assert np.array_equal(read_rgb(file.path), plain) == (suffix == ".png")

    before = written["blur"][0].path.stat().st_ino
    written["blur"][1].path.unlink()
    write_baselines(students, tuned, tmp_path / "out")
    assert written["blur"][0].path.stat().st_ino == before
    assert written["blur"][1].path.exists()
    monkeypatch.setattr(tuning, "decode", None)  # where all is there, no pixel is needed
    assert write_baselines(students, tuned, tmp_path / "out") == written
