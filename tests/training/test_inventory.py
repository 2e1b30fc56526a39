"""Images are checked before the first step, and broken ones never count."""

import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.test_run import recipe
from undistill.base.errors import Failure, UsageError
from undistill.base.output import QUIET
from undistill.dataset.samples import DataError, ImageFolders, Sample, list_files, list_sides, pixels_of
from undistill.dataset.shard import Pairs, shard_path
from undistill.training import whole
from undistill.training.recipe import dump_recipe
from undistill.training.run import train
from undistill.training.sides import all_samples, listed_sides
from undistill.training.sweep import check_cells, read_sweep
from undistill.training.whole import broken_words, find_broken

Folders = Callable[..., Path]
ALL = (0.0, 1.0)


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process."""
    monkeypatch.setattr(whole, "_found", defaultdict(dict))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that are decoded from now on."""
    decoded: list[str] = []

    def counting(sample: Sample) -> object:
        decoded.append(sample.id)
        return pixels_of(sample)

    monkeypatch.setattr(whole, "pixels_of", counting)
    return decoded


def test_all_broken_images_are_named_before_the_first_step_and_left_out_if_asked(
    image_folder: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, teacher, run = image_folder("student", 12), image_folder("teacher", 12, seed=1), tmp_path / "run"
    source = ImageFolders([student], [teacher])
    (student / "001.png").write_bytes(b"no picture")
    (teacher / "003.png").write_bytes((teacher / "003.png").read_bytes()[:200])
    for path in (student / "004.png", teacher / "004.png"):
        path.write_bytes(b"")
    data = {"crop": 64, "train": "all", "val": "all", "min_side": 70}
    with pytest.raises(Failure, match=r"^4 of 24 images can't be used: ") as error:
        train(recipe("paired", data=data), source, run, device="cpu")
    said = str(error.value)
    assert all(words in said for words in (f"{student / '001.png'} is no image", f"{teacher / '003.png'} is broken"))
    assert said.endswith("; and 1 more; --skip-broken leaves them out")
    assert "\n" not in said
    assert not run.exists()

    capsys.readouterr()
    train(recipe("paired", data=data), source, run, max_steps=1, device="cpu", skip_broken=True)
    assert [line for line in capsys.readouterr().err.splitlines() if "can't be used" in line] == [
        said.replace("--skip-broken leaves them out", "left out")
    ]
    quiet = QUIET.set(True)
    train(recipe("paired", data=data), source, run, max_steps=1, device="cpu", skip_broken=True)
    QUIET.reset(quiet)
    assert capsys.readouterr().err == ""
    images = json.loads((run / "data.json").read_text())
    assert {name: side["images"] for name, side in images.items()} == dict.fromkeys(images, 9)
    for path in (student / "001.png", teacher / "003.png", student / "004.png", teacher / "004.png"):
        path.unlink()
    assert train(recipe("paired", data=data), source, run, max_steps=2, device="cpu").step == 2
    (student / "000.png").unlink()  # it was whole
    with pytest.raises(UsageError, match="other images"):
        train(recipe("paired", data=data), source, run, max_steps=3, device="cpu")


def test_without_pairs_a_twin_stays(image_folder: Folders, tmp_path: Path) -> None:
    student, teacher = image_folder("student", 12), image_folder("teacher", 12, seed=1)
    (student / "001.png").write_bytes(b"")
    data = {"crop": 64, "train": "all", "val": "all"}
    source = ImageFolders([student], [teacher])
    train(recipe("unpaired", data=data), source, tmp_path / "run", max_steps=1, device="cpu", skip_broken=True)
    images = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (images["student"]["images"], images["teacher"]["images"]) == (11, 12)


def test_a_run_goes_on_with_an_image_that_it_counted_or_not_at_all(image_folder: Folders, tmp_path: Path) -> None:
    student, teacher, run = image_folder("student", 12), image_folder("teacher", 12, seed=1), tmp_path / "run"
    source, made = ImageFolders([student], [teacher]), recipe("paired", data={"crop": 64, "train": "all", "val": "all"})
    never, cut = teacher / "007.png", student / "001.png"
    never.write_bytes(b"")
    train(made, source, run, max_steps=1, device="cpu", skip_broken=True)
    began, whole = (run / "data.json").read_bytes(), cut.read_bytes()
    cut.write_bytes(whole[:200])
    with pytest.raises(UsageError, match=rf"begun with other images .*{cut}.* can't be used now: put") as error:
        train(made, source, run, max_steps=2, device="cpu", skip_broken=True)
    assert "\n" not in str(error.value)
    assert (run / "data.json").read_bytes() == began
    cut.write_bytes(whole)
    assert train(made, source, run, max_steps=2, device="cpu", skip_broken=True).step == 2
    never.unlink()
    assert train(made, source, run, max_steps=3, device="cpu").step == 3


def test_nothing_left_is_one_line(image_folder: Folders, tmp_path: Path) -> None:
    student, teacher = image_folder("student", 3), image_folder("teacher", 3)
    for path in student.iterdir():
        path.write_bytes(b"")
    data = {"crop": 64, "train": "all", "val": "all"}
    with pytest.raises(UsageError, match="no image is left without the 3 that are broken"):
        train(
            recipe("paired", data=data),
            ImageFolders([student], [teacher]),
            tmp_path / "run",
            device="cpu",
            skip_broken=True,
        )


def test_what_was_found_whole_is_remembered(image_folder: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = image_folder("images", 6)
    (folder / "005.png").write_bytes(b"")
    samples = list_files([folder], ALL)
    decoded = counted(monkeypatch)
    assert list(find_broken([*samples, samples[0]])) == [str(folder / "005.png")]
    assert sorted(decoded) == [f"00{i}" for i in range(6)]
    decoded.clear()
    forget(monkeypatch)
    assert len(find_broken(samples)) == 1
    assert decoded == ["005"]  # broken ones are looked at again
    (folder / "005.png").write_bytes((folder / "000.png").read_bytes())
    os.utime(folder / "001.png", (1, 1))
    decoded.clear()
    assert find_broken(samples) == {}
    assert sorted(decoded) == ["001", "005"]
    status = (folder / "003.png").stat()
    (folder / "003.png").write_bytes(bytes(status.st_size))
    os.utime(folder / "003.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert list(find_broken(samples)) == [str(folder / "003.png")]  # of the size and age of the one before
    (folder / "003.png").unlink()
    (folder / "002.png").unlink()
    samples.pop(3)
    assert list(find_broken(samples).values()) == [f"{folder / '002.png'} can't be read: No such file or directory"]


def test_an_interrupt_loses_nothing_that_was_found(image_folder: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = list_files([image_folder("images", 6)], ALL)

    def interrupted(sample: Sample) -> object:
        if sample.id == "004":
            raise KeyboardInterrupt
        return pixels_of(sample)

    monkeypatch.setattr(whole, "pixels_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_broken(samples, threads=1)
    monkeypatch.setattr(whole, "pixels_of", pixels_of)
    forget(monkeypatch)
    decoded = counted(monkeypatch)
    find_broken(samples)
    assert sorted(decoded) == ["004", "005"]


def test_without_a_cache_the_process_remembers(
    image_folder: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("UNDISTILL_CACHE", str(tmp_path / "file"))
    samples = list_files([image_folder("images", 3)], ALL)
    decoded = counted(monkeypatch)
    for _ in range(2):
        assert find_broken(samples) == {}
    assert len(decoded) == 3


def test_rows_of_shards_are_checked_and_a_sweep_ends_before_its_first_cell(
    pairs_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pairs_folder("pairs", 12)
    shard = shard_path(folder, 1)
    shard.write_bytes(shard.read_bytes().replace(b"IDAT", b"IDLE"))
    pairs = Pairs(folder)
    decoded = counted(monkeypatch)
    assert len(find_broken(all_samples((list_sides(pairs, ALL), list_sides(pairs, (0.5, 1)))))) == 8
    assert len(decoded) == 24
    data = {"crop": 64, "train": "all", "val": "all"}
    (tmp_path / "a.yaml").write_text(dump_recipe(recipe("paired", data=data)))
    (tmp_path / "sweep.yaml").write_text("a: {recipe: a.yaml, grid: {lr: [0.001, 0.002]}}\n")
    words = r"^8 of 24 images can't be used: .*and 5 more; .*pairs verify .* --repair"
    with pytest.raises(Failure, match=words) as error:
        check_cells(read_sweep(tmp_path / "sweep.yaml"), pairs, "cpu")
    assert "\n" not in str(error.value)


def test_few_are_named_all() -> None:
    assert broken_words({"a": "a is broken"}, 3) == "1 of 3 images can't be used: a is broken"


def test_a_paired_recipe_refuses_pairs_that_are_none_by_design(pairs_folder: Folders) -> None:
    folder = pairs_folder("pairs", 12)
    described = json.loads((folder / "dataset.json").read_text())
    described["pair"]["teacher"] = {"start": "text"}
    (folder / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match=r"unpaired by design .* take a recipe that needs no pairs"):
        listed_sides(recipe("paired"), Pairs(folder))
    assert listed_sides(recipe("unpaired"), Pairs(folder))
