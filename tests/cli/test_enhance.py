import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run
from undistill.base.files import SAMPLES
from undistill.base.record import Record
from undistill.cli.enhance import DATASET, enhance
from undistill.dataset.shard import DESCRIPTION
from undistill.enhance.faces import FEATHER, NoFace, Where
from undistill.heads.head import head_folder
from undistill.images import FormatName

Folders = Callable[..., Path]


def test_refuses_stores_and_another_engines_options(tmp_path: Path, undistill: Run) -> None:
    for words, arguments in (
        ("s3:/faces/x: enhance works on folders of a file system", ("s3://faces/x", "-o", tmp_path / "out")),
        ("s3:/faces/x: enhance works on folders of a file system", (tmp_path, "-o", "s3://faces/x")),
        ("--gpus-per-worker goes with --engine ray", (tmp_path, "-o", tmp_path / "out", "--gpus-per-worker", 1)),
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
    made = sorted((tmp_path / "enhanced").glob("*.webp"))
    assert [path.name for path in made] == sorted(path.name for path in SAMPLES.iterdir())
    assert all(b"/trainedAlgorithmicMedia" in path.read_bytes() for path in made)  # FLUX.1-schnell drew them


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
        (("--lossless", "--quality", 90), "either quality or lossless"),
        (("--lossless", "--format", "jpeg"), "can't be written as JPEG without loss"),
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


def sample(name: str = "schnell-000123-ceo", side: int = 256) -> Image.Image:
    image = Image.open(SAMPLES / f"{name}.webp").convert("RGB")
    return image.resize((side, side), Image.Resampling.LANCZOS)


def test_faces_alone_with_notes_and_a_record(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    face, wall = sample(), Image.new("RGB", (64, 48), "grey")
    face.save("in/face.png")
    wall.save("in/wall.png")
    alone = ("enhance", "in", "--head", "tiny-best", "--where", "face", "-o")
    code, said, notes = undistill(*alone, "out", "--no-face", "keep")
    assert (code, said) == (None, "2 enhanced, 0 done before -> out\n")
    assert "in/wall.png: no face found: kept as it is" in notes
    assert Path("out/wall.png").read_bytes() == Path("in/wall.png").read_bytes()
    changed = np.asarray(Image.open("out/face.png")) != np.asarray(face)
    assert 0.02 < changed.any(-1).mean() < 0.4
    assert undistill(*alone, "out", "--no-face", "keep")[1] == "0 enhanced, 2 done before -> out\n"
    code, _, errors = undistill(*alone, "out", "--feather", 0.3)
    assert "at strength 1.0, feather 0.2, marked by metadata, no face keep, where face: choose another" in errors
    code, _, errors = undistill(*alone, "other", "--no-face", "fail")
    assert code == 1
    assert "in/wall.png shows no face" in errors


def test_faces_alone_in_a_data_set(undistill: Run, tmp_path: Path, pairs_folder: Folders) -> None:
    arguments = ("enhance", pairs_folder("pairs", 2), "-o", tmp_path / "out", "--head", "tiny-best", "--where", "face")
    code, said, notes = undistill(*arguments, "--no-face", "keep")
    assert (code, said) == (None, f"2 enhanced, 0 done before -> {tmp_path / 'out'}\n")
    assert "2 of them: no face found: kept as it is" in notes.splitlines()
    code, _, errors = undistill(*arguments, "--keep-identity", 0.9)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "becomes another, of one strength" in errors


def test_masks_of_ones_own(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("in/a", "masks/a"):
        Path(folder).mkdir(parents=True)
    picture = sample(side=64)
    picture.save("in/a/one.jpg", quality=95)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    arguments = ("enhance", "in", "--head", "tiny-best", "--mask", "masks", "--format", "png", "-o", "out")
    code, _, errors = undistill(*arguments)
    assert (code, errors) == (2, "undistill: in/a/one.jpg has no mask: masks/a/one.png is not there\n")
    mask.resize((10, 10)).save("masks/a/one.png")
    assert "has a mask of 10 x 10 px, and is upright 64 x 64 px" in undistill(*arguments)[2]
    mask.save("masks/a/one.png")
    assert undistill(*arguments)[0] is None
    before, after = (np.asarray(Image.open(path)) for path in ("in/a/one.jpg", "out/a/one.png"))
    assert np.array_equal(before[:, 32:], after[:, 32:])
    assert not np.array_equal(before[:, :32], after[:, :32])
    assert undistill(*arguments)[1] == "0 enhanced, 1 done before -> out\n"
    mask.paste(255, (0, 0, 40, 64))
    mask.save("masks/a/one.png")
    code, _, errors = undistill(*arguments)
    assert (code, "with another --mask: choose another folder" in errors) == (2, True)
    assert "without --mask" not in errors
    assert undistill(*arguments, "--overwrite")[1] == "1 enhanced, 0 done before -> out\n"
    code, _, errors = undistill(*arguments[:4], *arguments[6:])
    assert (code, "with another --mask: choose another folder" in errors) == (2, True)


def test_files_say_how_they_were_made(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    sample(side=64).save("in/a.png")
    plain = ("enhance", "in/a.png", "--head", "tiny-best", "-o")
    for out, more in (("marked", ()), ("generated", ("--generated",)), ("plain", ("--no-provenance",))):
        assert undistill(*plain, out, *more)[0] is None
    marked, generated, bare = (Path(out, "a.png").read_bytes() for out in ("marked", "generated", "plain"))
    assert b"compositeWithTrainedAlgorithmicMedia" in marked
    assert b"/trainedAlgorithmicMedia" in generated
    assert b'"head": "tiny-best"' in marked
    assert b"undistill" not in bare
    code, _, errors = undistill(*plain, "plain")
    assert code == 2
    assert "made by tiny-best at strength 1.0, and says nothing of it (as with --no-provenance)" in errors
    # Whose folder of heads it is is nobody's business.
    (tmp_path / "secret" / "head").mkdir(parents=True)
    for file in head_folder("tiny-best").iterdir():
        (tmp_path / "secret/head" / file.name).write_bytes(file.read_bytes())
    assert undistill("enhance", "in/a.png", "--head", tmp_path / "secret/head", "-o", "mine")[0] is None
    assert b"secret" not in Path("mine/a.png").read_bytes()


class Pipe:
    """Standard input or output that has bytes."""

    def __init__(self, data: bytes = b"") -> None:
        self.buffer = BytesIO(data)

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        return self.buffer.write(text.encode())

    def flush(self) -> None: ...


def test_from_a_pipe_to_a_pipe(undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sample(side=64).save("a.png")
    data = Path("a.png").read_bytes()
    head = ("--head", "tiny-best")
    assert undistill("enhance", "a.png", *head, "-o", "out")[0] is None
    expected = Path("out/a.png").read_bytes()
    for source in ("a.png", "-"):
        monkeypatch.setattr(sys, "stdin", Pipe(data))
        out = Pipe()
        with monkeypatch.context() as context:
            context.setattr(sys, "stdout", out)
            assert undistill("enhance", source, *head, "-o", "-")[0] is None
        assert out.buffer.getvalue() == expected
    monkeypatch.setattr(sys, "stdin", Pipe(data))
    assert undistill("enhance", "-", *head, "-o", "piped")[1] == "1 enhanced, 0 done before -> piped\n"
    assert Path("piped/stdin.png").read_bytes() == expected
    monkeypatch.setattr(sys, "stdin", Pipe(b"<html>"))
    assert undistill("enhance", "-", *head, "-o", "piped")[::2] == (1, "undistill: standard input brings no image\n")
    assert not Path("-").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-", "a.png", "-o", "out"), "it goes with no other"),
        (("a.png", "b.png", "-o", "-"), "for one image"),
        (("a.png", "-o", "-", "--workers", 2), "don't go with -o -"),
        (("a.png", "--where", "face", "--mask", "."), "either --where face or --mask"),
        (("a.png", "--feather", 0.3), "go with --where face"),
        (("a.png", "--no-face", "keep"), "go with --where face"),
        (("a.png", "--mask", "none"), "--mask none is no folder"),
        (("a.png", "--generated", "--no-provenance"), "doesn't go with no provenance"),
        (("a.png", "--c2pa-cert", "a.png", "--no-provenance"), "doesn't go with --no-provenance"),
        (("a.png", "--c2pa-cert", "a.png"), "go together"),
        (("a.png", "--c2pa-cert", "a.png", "--c2pa-key", "a.png", "--engine", "ray"), "stays on this machine"),
    ],
)
def test_options_that_do_not_go_together(
    undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(name)
    code, _, errors = undistill("enhance", *arguments)
    assert code == 2
    assert said in errors
    assert len(errors.splitlines()) == 1


def test_options_are_those_of_the_package() -> None:  # which takes too long to import for --help
    options = inspect.signature(enhance).parameters
    assert options["feather"].default == FEATHER
    for name, known in (("format", FormatName), ("where", Where), ("no_face", NoFace)):
        assert get_args(get_args(options[name].annotation)[0]) == get_args(known)


HEAVY = ("pyarrow", "scipy", "lightning_fabric", "diffusers", "transformers", "torchmetrics", "matplotlib")


def test_an_image_imports_nothing_in_vain(tmp_path: Path, image_folder: Folders) -> None:
    code = (
        "import sys; from undistill.cli import app; app(sys.argv[1:], standalone_mode=False); "
        f"sys.exit(' '.join(set({HEAVY!r}) & set(sys.modules)) or 0)"
    )
    arguments = ["enhance", str(image_folder("in", 1)), "-o", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(" ->")[0]) == (0, "1 enhanced, 0 done before"), done.stderr


def test_a_data_set_is_known_by_its_description() -> None:
    assert DATASET == DESCRIPTION
