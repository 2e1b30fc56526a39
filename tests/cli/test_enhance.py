import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import Run
from undistill.base.files import SAMPLES
from undistill.base.record import Record

Folders = Callable[..., Path]


def test_refuses_stores_and_another_engines_options(tmp_path: Path, undistill: Run) -> None:
    for words, arguments in (
        ("s3:/faces/x: enhance works on folders of a file system", ("s3://faces/x", "-o", tmp_path / "out")),
        ("s3:/faces/x: enhance works on folders of a file system", (tmp_path, "-o", "s3://faces/x")),
        ("--gpus-per-worker go with --engine ray", (tmp_path, "-o", tmp_path / "out", "--gpus-per-worker", 1)),
    ):
        code, _, errors = undistill("enhance", *arguments)
        assert code == 2
        assert len(errors.splitlines()) == 1
        assert words in errors
    assert not list(tmp_path.iterdir())


def test_the_shipped_portraits(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert undistill("enhance")[::2] == (
        2,
        "undistill: nothing to enhance: name images or folders, or take --samples\n",
    )
    assert undistill("enhance", "--samples")[:2] == (None, "8 enhanced, 0 done before -> enhanced\n")
    names = sorted(path.name for path in (tmp_path / "enhanced").glob("*.webp"))
    assert names == sorted(path.name for path in SAMPLES.iterdir())


def test_an_empty_argument_is_no_folder(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (("", "-o", "out"), ("--samples", "-o", ""), ("--samples", "--out=")):
        assert undistill("enhance", *arguments)[::2] == (2, "undistill: an argument is empty: is a variable not set?\n")
    assert not list(tmp_path.iterdir())


def test_another_head_does_not_overwrite(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert undistill("enhance", "--samples", "--strength", 0)[0] is None
    code, _, errors = undistill("enhance", "--samples", "--strength", 0.5)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "made by flux1 at strength 0.0: choose another folder for -o, or replace it with --overwrite" in errors
    assert undistill("enhance", "--samples", "--strength", 0.5, "--overwrite")[0] is None


def test_results_may_lie_in_a_folder_called_like_the_head(
    undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for done in ("8 enhanced, 0 done before", "0 enhanced, 8 done before"):
        assert undistill("enhance", "--samples", "-o", "flux1")[:2] == (None, f"{done} -> flux1\n")


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(
    undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_folder: Folders
) -> None:
    monkeypatch.chdir(tmp_path)
    image_folder("in", 2)
    arguments = ("enhance", "in", "-o", "out", "--format", "webp", "--suffix", "-new")
    code, said, _ = undistill(*arguments, "--dry-run")
    assert code is None
    assert said.splitlines() == [
        "in/000.png -> out/000-new.webp", "in/001.png -> out/001-new.webp", "2 to enhance, 0 done before"
    ]  # fmt: skip
    assert not (tmp_path / "out").exists()
    assert undistill("--quiet", *arguments)[:2] == (None, "")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.webp")) == ["000-new.webp", "001-new.webp"]
    assert undistill(*arguments, "--dry-run")[1] == "0 to enhance, 2 done before\n"
    for dry in ((), ("--dry-run",)):
        code, _, errors = undistill(*arguments, "--quality", 80, *dry)
        assert (code, len(errors.splitlines())) == (2, 1)
        assert "was made by flux1 at strength 1.0, format WEBP" in errors


def test_results_may_lie_beside_their_sources(undistill: Run, tmp_path: Path, image_folder: Folders) -> None:
    folder = image_folder("in", 2)
    for done in ("2 enhanced, 0 done before", "0 enhanced, 2 done before"):
        assert undistill("enhance", folder, "-o", folder, "--suffix", "-new")[1] == f"{done} -> {folder}\n"
    named = sorted(folder.iterdir())  # as a shell's * does, results and all
    named = [path for path in named if not path.name.startswith(".")]
    assert (
        undistill("enhance", *named, "-o", folder, "--suffix", "-new")[1] == f"0 enhanced, 2 done before -> {folder}\n"
    )
    assert "would be overwritten: choose another folder for -o, or a --suffix" in undistill(
        "enhance", folder, "-o", folder
    )[2]  # fmt: skip


def test_what_is_left_out_is_counted_and_named(
    undistill: Run, tmp_path: Path, image_folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder("in", 1)
    for name in ("a.heic", "b.heic", "c.heic", "d.HEIC", "e.svg", "notes.txt"):
        (folder / name).touch()
    os.mkfifo(folder / "pipe.png")  # nobody writes to it: to read it would wait for ever
    (folder / "closed").mkdir()
    walk = os.scandir

    def denied(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return walk(path)

    monkeypatch.setattr(os, "scandir", denied)
    code, _, errors = undistill("enhance", folder, "-o", tmp_path / "out", "--strength", 0)
    assert code == 1
    assert errors.splitlines()[-5:] == [
        "left out: 4 .heic, which is not read: a.heic, b.heic, c.heic, ...",
        "left out: 1 .svg, which is not read: e.svg",
        "left out: 1 no files (.png): pipe.png",
        f"left out, as it can't be read: {folder / 'closed'}",
        "undistill: folders could not be read: look at their rights",
    ]
    code, _, errors = undistill("enhance", folder / "pipe.png", "-o", tmp_path / "out")
    assert (code, errors) == (2, f"undistill: {folder / 'pipe.png'} is neither a file nor a folder\n")


def test_strength_0_leaves_the_files_bytes(undistill: Run, tmp_path: Path, image_folder: Folders) -> None:
    folder, out = image_folder("in", 1, suffix=".jpg"), tmp_path / "out"
    name = "n" * 246 + ".jpg"  # as long as names get
    (folder / "000.jpg").rename(folder / name)
    with Image.open(folder / name) as image:
        image.save(folder / "two.bmp")
    (folder / "three.gif").write_bytes((folder / name).read_bytes())  # by name; it is a JPEG
    assert undistill("enhance", folder, "-o", out, "--strength", 0)[0] is None
    assert (out / name).read_bytes() == (folder / name).read_bytes()
    with Image.open(out / "three.png") as image:
        assert image.format == "PNG"
    with Image.open(out / "two.png") as image, Image.open(folder / "two.bmp") as before:
        assert image.format == "PNG"
        assert image.tobytes() == before.tobytes()


def test_workers_make_the_same_files(undistill: Run, tmp_path: Path, image_folder: Folders) -> None:
    folder = image_folder("in", 3)
    for out, more in (("one", ()), ("two", ("--workers", 2))):
        assert undistill("enhance", folder, "-o", tmp_path / out, *more)[0] is None
    names = [path.name for path in (tmp_path / "one").iterdir()]
    assert len(names) == 4
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


def test_a_folder_goes_on_with_the_backend_it_was_begun_with(
    undistill: Run, tmp_path: Path, image_folder: Folders, pairs_folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fastest(name: str) -> None:
        monkeypatch.setattr("undistill.enhance.backends.table.fastest", lambda head, device, images: name)

    out = tmp_path / "out"
    fastest("contiguous")
    assert undistill("enhance", image_folder("in", 1), "-o", out)[1].startswith("1 enhanced")
    assert {entry["backend"] for entry in Record(out).files.values()} == {"contiguous"}
    fastest("torch")
    assert undistill("enhance", image_folder("in", 2), "-o", out)[1].startswith("1 enhanced, 1 done before")
    assert {entry["backend"] for entry in Record(out).files.values()} == {"contiguous"}
    code, _, errors = undistill("enhance", tmp_path / "in", "-o", out, "--backend", "torch")
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "made by flux1 at strength 1.0, backend contiguous" in errors
    assert undistill("enhance", tmp_path / "in", "-o", out, "--backend", "torch", "--overwrite")[0] is None
    assert not any("backend" in entry for entry in Record(out).files.values())

    fastest("contiguous")
    pairs, made = pairs_folder("pairs", 2), tmp_path / "made"
    assert undistill("enhance", pairs, "-o", made, "--head", "flux1")[1].startswith("2 enhanced")
    assert json.loads((made / "dataset.json").read_text())["backend"] == "contiguous"
    fastest("torch")
    assert undistill("enhance", pairs, "-o", made, "--head", "flux1")[1].startswith("0 enhanced, 2 done")
    code, _, errors = undistill("enhance", pairs, "-o", made, "--head", "flux1", "--backend", "torch")
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "holds images with --backend contiguous" in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "png", "--quality", 90), "PNG doesn't"),
        (("--lossless", "--quality", 90), "either --quality or --lossless"),
        (("--lossless", "--format", "jpeg"), "can't be written without loss"),
        (("--suffix", "a/b"), "a part of a name"),
    ],
)
def test_options_of_files_that_make_no_sense(
    arguments: tuple[Any, ...], words: str, undistill: Run, tmp_path: Path, image_folder: Folders
) -> None:
    code, _, errors = undistill("enhance", image_folder("in", 1), "-o", tmp_path / "out", *arguments)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert words in errors
    assert not (tmp_path / "out").exists()
