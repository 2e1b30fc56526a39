import errno
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from undistill.base import record
from undistill.base.errors import Failure, UsageError
from undistill.base.files import replacing
from undistill.base.record import JOURNAL, RECORD, Record
from undistill.enhance import Enhancer
from undistill.enhance.change import Change
from undistill.enhance.files import Outcome, check_settings, enhance_files
from undistill.enhance.jobs import list_jobs

Folders = Callable[..., Path]
HEAD = {"head": "inverse", "weights": "0"}


class Inverse:
    """Stands for an Enhancer: quick, and easy to check."""

    device = torch.device("cpu")
    head = SimpleNamespace(trained_at=None)

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, pixels: Any, strength: float) -> Any:
        self.calls += 1
        return 255 - pixels


def run(inputs: list[Path], out: Path, strength: float = 1.0, head: dict[str, str] = HEAD) -> tuple[Outcome, Inverse]:
    inverse = Inverse()
    make: Callable[[], Enhancer] = lambda: inverse  # type: ignore[assignment, return-value]  # noqa: E731
    return enhance_files(list_jobs(inputs, out), out, make, head, Change(strength)), inverse


def test_same_path_same_format(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder("in", 2)
    image_folder("in/deep/er", 1, suffix=".jpg")
    out = tmp_path / "out"
    outcome, _ = run([folder], out)
    assert (outcome.enhanced, outcome.skipped, outcome.failures) == (3, 0, {})
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
        RECORD, "000.png", "001.png", "deep/er/000.jpg"
    ]  # fmt: skip
    assert Image.open(out / "deep/er/000.jpg").format == "JPEG"
    assert np.array_equal(np.asarray(Image.open(out / "001.png")), 255 - np.asarray(Image.open(folder / "001.png")))


def test_skips_what_is_done_and_whole(image_folder: Folders, tmp_path: Path) -> None:
    folder, out = image_folder("in", 4), tmp_path / "out"
    run([folder], out)
    assert run([folder], out)[1].calls == 0
    (out / "000.png").write_bytes((out / "000.png").read_bytes()[:-20])  # half-written
    (out / "001.png").unlink()
    (folder / "002.png").write_bytes((folder / "003.png").read_bytes())  # another picture now
    outcome, inverse = run([folder], out)
    assert (inverse.calls, outcome.enhanced, outcome.skipped) == (3, 3, 1)
    assert run([folder], out, strength=0.5)[1].calls == 4
    assert run([folder], out, head={**HEAD, "weights": "1"})[1].calls == 4
    (out / RECORD).write_text("{")
    with pytest.raises(UsageError, match="can't be read"):
        run([folder], out)


def test_what_was_made_with_something_else_is_named(image_folder: Folders, tmp_path: Path) -> None:
    folder, out = image_folder("in", 4), tmp_path / "out"
    jobs = list_jobs([folder], out)
    check_settings(Record(out), jobs, HEAD, Change())
    run([folder], out)
    check_settings(Record(out), jobs, HEAD, Change())
    check_settings(Record(out), jobs, {**HEAD, "head": "another name"}, Change())  # of the same weights
    for head, strength in ((HEAD, 0.5), ({**HEAD, "weights": "1"}, 1.0), ({**HEAD, "fold": "0/5"}, 1.0)):
        with pytest.raises(UsageError, match=r"000\.png was made by inverse at strength 1.0: .* --overwrite"):
            check_settings(Record(out), jobs, head, Change(strength))
    (out / "000.png").unlink()
    check_settings(Record(out), jobs[:1], HEAD, Change(0.5))  # nothing is lost


def test_one_bad_file_never_stops_the_rest(image_folder: Folders, tmp_path: Path) -> None:
    folder, out = image_folder("in", 3), tmp_path / "out"
    (folder / "000.png").write_bytes((folder / "000.png").read_bytes()[:90])
    (folder / "bad.jpg").write_text("<html>")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    outcome, _ = run([folder], out)
    assert outcome.enhanced == 2
    assert {path.name for path in outcome.failures} == {"000.png", "bad.jpg", "moving.webp"}
    assert all("\n" not in reason for reason in outcome.failures.values())
    assert not (out / "bad.jpg").exists()


def test_a_failure_of_any_kind_is_the_files_own(image_folder: Folders, tmp_path: Path) -> None:
    class Fails(Inverse):
        def __call__(self, pixels: Any, strength: float) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("out of memory\nwith a long story")
            return 255 - pixels

    make: Callable[[], Enhancer] = Fails  # type: ignore[assignment]
    outcome = enhance_files(
        list_jobs([image_folder("in", 3)], tmp_path / "out"), tmp_path / "out", make, HEAD, Change()
    )
    assert outcome.enhanced == 2
    assert list(outcome.failures.values()) == ["failed: out of memory"]


def test_says_what_was_converted(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder("in", 1)
    Image.open(folder / "000.png").convert("CMYK").save(folder / "print.jpg")
    outcome, _ = run([folder], tmp_path / "out")
    assert outcome.notes == {folder / "print.jpg": "CMYK read as RGB"}


def test_never_overwrites_an_input(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder("in", 2)
    for inputs in ([folder], [folder / "000.png"]):
        with pytest.raises(UsageError, match=r"000\.png would be overwritten"):
            list_jobs(inputs, folder)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UsageError, match="would be overwritten"):
        list_jobs([folder], tmp_path / "link")
    # A link in the output folder that leads to an input is replaced, not followed.
    out = tmp_path / "out"
    out.mkdir()
    (out / "000.png").symlink_to(folder / "000.png")
    with pytest.raises(UsageError, match="would be overwritten"):
        list_jobs([folder], out)


def test_never_overwrites_what_others_made(image_folder: Folders) -> None:
    folder, other = image_folder("in", 2), image_folder("other", 1)
    with pytest.raises(UsageError, match=r"000\.png is there and not made by undistill"):
        list_jobs([folder], other)
    below = image_folder("in/sub", 1)
    with pytest.raises(UsageError, match="would be overwritten"):
        list_jobs([folder], below)


def test_results_inside_the_input_folder_are_no_inputs(image_folder: Folders) -> None:
    folder = image_folder("in", 2)
    run([folder], folder / "out")
    assert len(list_jobs([folder], folder / "out")) == 2
    # Nor are those of other runs, whatever their output folder; given themselves, they are.
    assert len(list_jobs([folder], folder / "out2")) == 2
    assert len(list_jobs([folder / "out"], folder / "out2")) == 2
    (folder / "out3").mkdir()
    (folder / "out3" / RECORD).write_text("{")  # whatever it is
    assert len(list_jobs([folder], folder / "out2")) == 2
    for image in folder.glob("*.png"):
        image.unlink()
    with pytest.raises(UsageError, match="no image inside but what undistill made: name its folder itself"):
        list_jobs([folder], folder / "out2")
    image_folder("in", 2)
    # But an output folder above the input hides nothing.
    assert len(list_jobs([image_folder("above/in", 2)], folder.parent / "above")) == 2


def test_refuses_inputs_that_collide_or_are_none(image_folder: Folders, tmp_path: Path) -> None:
    one, two = image_folder("one", 1), image_folder("two", 1)
    with pytest.raises(UsageError, match=r"both become .*000\.png"):
        list_jobs([one, two], tmp_path / "out")
    assert len(list_jobs([one, one / "000.png"], tmp_path / "out")) == 1
    with pytest.raises(UsageError, match="does not exist"):
        list_jobs([tmp_path / "gone"], tmp_path / "out")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"can't enhance \.txt"):
        list_jobs([tmp_path / "notes.txt"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no image inside"):
        list_jobs([tmp_path / "empty"], tmp_path / "out")


def test_split_by_the_ids_hash(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder("in", 20)
    halves = [list_jobs([folder], tmp_path / "out", split) for split in ((0.0, 0.5), (0.5, 1.0))]
    assert all(halves)
    assert sorted(job.source.name for half in halves for job in half) == [f"{number:03d}.png" for number in range(20)]


def test_a_full_disk_ends_it_and_the_rest_is_done_later(
    image_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = image_folder("in", 5), tmp_path / "out"
    written: list[Path] = []

    def full_after_two(path: Path) -> Any:
        if path.name != RECORD:
            if len(written) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(path)
        return replacing(path)

    monkeypatch.setattr(record, "replacing", full_after_two)
    with pytest.raises(Failure, match=r"No space left on device; 2 of 5 images are done"):
        run([folder], out)
    monkeypatch.undo()
    assert run([folder], out)[1].calls == 3


@pytest.mark.parametrize("name", ["000.png", RECORD])
def test_a_disk_that_fails_at_a_file_or_at_the_record_is_said(
    name: str, image_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is no failure of the image, which can be read."""
    folder, out = image_folder("in", 3), tmp_path / "out"

    def failing(path: Path) -> Any:
        if path.name == name:
            raise OSError(errno.EIO, "Input/output error")
        return replacing(path)

    monkeypatch.setattr(record, "replacing", failing)
    done = 3 if name == RECORD else 0
    with pytest.raises(Failure, match=rf"can't write to {out}: Input/output error; {done} of 3 images are done"):
        run([folder], out)
    monkeypatch.undo()
    assert run([folder], out)[1].calls == 3 - done
    assert not (out / JOURNAL).exists()


def test_an_interrupt_keeps_the_record(image_folder: Folders, tmp_path: Path) -> None:
    folder, out = image_folder("in", 3), tmp_path / "out"

    class Interrupted(Inverse):
        def __call__(self, pixels: Any, strength: float) -> Any:
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(pixels, strength)

    make: Callable[[], Enhancer] = Interrupted  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        enhance_files(list_jobs([folder], out), out, make, HEAD, Change())
    assert sum(bool(entry) for entry in json.loads((out / RECORD).read_text())["files"].values()) == 2
    assert run([folder], out)[1].calls == 1
