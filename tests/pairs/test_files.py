import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from undistill.base import record
from undistill.base.errors import Failure, UsageError
from undistill.base.files import replacing
from undistill.base.record import RECORD, Record
from undistill.images import Pixels
from undistill.pairs.files import generate_files
from undistill.prompts import Prompt, numbered

RAW = {".": {"pair": "grey", "spec": "0"}}
BOTH = {"student": RAW["."], "enhanced": {**RAW["."], "head": "inverse", "weights": "1"}}


class Grey:
    """Stands for a pipeline: grey images as light as their seeds, and their inverse."""

    def __init__(self, folders: dict[str, dict[str, str]]) -> None:
        self.folders = folders
        self.batches: list[list[int]] = []

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Pixels]:
        self.batches.append(list(seeds))
        images = np.stack([np.full((8, 8, 3), seed, np.uint8) for seed in seeds])
        return [images, 255 - images][: len(self.folders)]


def run(prompts: list[Prompt], out: Path, folders: dict[str, dict[str, str]] = RAW) -> list[list[int]]:
    """The batches of seeds that were generated."""
    grey = Grey(folders)
    made, skipped = generate_files(prompts, out, folders, lambda: grey, 2)
    assert made == sum(map(len, grey.batches))
    assert made + skipped == len(prompts)
    return grey.batches


def test_writes_pngs_with_their_prompts(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert run(numbered(["A tree", "Ein Bäumchen 木"], 7), out) == [[7, 8]]
    image = Image.open(out / "000001.png")
    assert isinstance(image, Image.Image)
    assert np.asarray(image).flatten().tolist() == [8] * 192
    text = image.text  # type: ignore[attr-defined]
    assert (text["prompt"], text["seed"], text["pair"]) == ("Ein Bäumchen 木", "8", "grey")
    assert text["Software"].startswith("undistill ")


def test_student_and_enhanced_lie_side_by_side(tmp_path: Path) -> None:
    run(numbered(["A tree"], 7), tmp_path, BOTH)
    student, enhanced = (Image.open(tmp_path / folder / "000000.png") for folder in BOTH)
    assert np.array_equal(np.asarray(student), 255 - np.asarray(enhanced))
    assert "head" not in student.text  # type: ignore[attr-defined]
    assert enhanced.text["head"] == "inverse"  # type: ignore[attr-defined]


def test_what_is_done_is_skipped(tmp_path: Path) -> None:
    prompts = numbered(["a", "b", "c", "d", "e"], 0)
    assert run(prompts[:2], tmp_path, BOTH) == [[0, 1]]
    (tmp_path / "enhanced" / "000000.png").unlink()
    (tmp_path / "student" / "000001.png").write_bytes(b"half an image")
    assert run(prompts, tmp_path, BOTH) == [[0, 1], [2, 3], [4]]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}

    def never() -> Any:
        raise AssertionError("nothing is left to generate")

    assert generate_files(prompts, tmp_path, BOTH, never, 2) == (0, 5)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}


def test_never_overwrites_what_is_something_else(tmp_path: Path) -> None:
    prompts = numbered(["a", "b"], 0)
    run(prompts, tmp_path)
    before = (tmp_path / "000000.png").read_bytes()
    with pytest.raises(UsageError, match=r"000000\.png was made with another prompt and seed: choose another folder"):
        run(numbered(["c"], 1), tmp_path)
    with pytest.raises(UsageError, match=r"000000\.png was made with another spec"):
        run(prompts, tmp_path, {".": {"pair": "grey", "spec": "1"}})
    (tmp_path / "mine.png").write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.png is there and not made by undistill"):
        run([Prompt(id="mine", prompt="a", seed=0)], tmp_path)
    assert (tmp_path / "mine.png").read_text() == "mine"
    assert (tmp_path / "000000.png").read_bytes() == before


def test_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    class Interrupted(Grey):
        def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Pixels]:
            if self.batches:
                raise KeyboardInterrupt
            return super().__call__(prompts, seeds)

    prompts = numbered(["a", "b", "c"], 0)
    with pytest.raises(KeyboardInterrupt):
        generate_files(prompts, tmp_path, RAW, lambda: Interrupted(RAW), 2)
    assert len(json.loads((tmp_path / RECORD).read_text())["files"]) == 3
    assert run(prompts, tmp_path) == [[2]]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_after_one(path: Path) -> Any:
        if path.name == "000001.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replacing(path)

    monkeypatch.setattr(record, "replacing", full_after_one)
    with pytest.raises(Failure, match=r"No space left on device; 1 of 3 images are done"):
        run(numbered(["a", "b", "c"], 0), tmp_path)
    monkeypatch.undo()
    assert run(numbered(["a", "b", "c"], 0), tmp_path) == [[1, 2]]


def test_what_a_kill_in_the_last_moment_leaves_goes_with_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Record, "save", lambda _: None)
        run(numbered(["A tree"], 7), tmp_path)
    (tmp_path / f".{RECORD}.part").touch()
    assert run(numbered(["A tree"], 7), tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, "000000.png"]
