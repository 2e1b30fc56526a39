import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from tests.cli.conftest import Run


def test_generates_and_enhances(miniature: Path, tmp_path: Path, undistill: Run) -> None:
    out, raw = tmp_path / "out", tmp_path / "raw"
    arguments = ("generate", "a portrait of ada", "a portrait of ben", "--pair", miniature, "--seed", 3, "--batch", 1)
    code, said, _ = undistill(*arguments, "--head", "flux1-lite", "-o", out)
    assert not code
    assert f"2 images of miniature, enhanced by flux1-lite, 0 done before -> {out}" in said
    names = [f"{folder}/{name}.png" for folder in ("enhanced", "student") for name in ("000000", "000001")]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == names
    assert "0 images of miniature, enhanced by flux1-lite, 2 done before" in undistill(
        *arguments, "--head", "flux1-lite", "-o", out
    )[1]  # fmt: skip
    # The same prompt and seed, from a file.
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"id": "ben", "prompt": "a portrait of ben", "name": "Ben", "seed": 4}\n')
    code, said, _ = undistill("generate", "--prompts", file, "--pair", miniature, "--raw", "-o", raw)
    assert not code
    assert f"1 student images of miniature, 0 done before -> {raw}" in said
    image = Image.open(raw / "ben.png")
    assert (image.info["prompt"], image.info["seed"], image.info["pair"]) == ("a portrait of ben", "4", "miniature")
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(out / "student" / "000001.png")))


def test_says_nothing_but_its_own_and_needs_no_torchvision(miniature: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torchvision', 'sentencepiece', 'google.protobuf'): sys.modules[name] = None\n"
        "from undistill.cli import main\n"
        "main()\n"
    )
    arguments = ("generate", "a portrait of ada", "--pair", miniature, "-o", tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("1 student images of miniature")
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["generating"]
    assert (tmp_path / "out" / "000000.png").exists()


def test_refuses_in_one_line(miniature: Path, tmp_path: Path, undistill: Run) -> None:
    out, file = tmp_path / "out", tmp_path / "prompts.jsonl"
    file.write_text('{"id": "a", "prompt": "p", "seed": 1}\n{"id": "b"}\n')

    def refuses(words: str, *arguments: object) -> None:
        code, _, errors = undistill("generate", *arguments)
        assert code == 2
        assert errors.startswith("undistill: ")
        assert len(errors.splitlines()) == 1
        assert words in errors

    refuses("give either prompts or --prompts FILE", "-o", out)
    refuses("give either prompts or --prompts FILE", "a", "--prompts", file, "-o", out)
    refuses("FILE has its own", "--prompts", file, "--seed", 1, "-o", out)
    refuses("--raw is without a head", "a", "--raw", "--head", "flux1-lite", "-o", out)
    refuses("line 2: prompt: Field required", "--prompts", file, "-o", out)
    refuses("is a file; -o takes a folder", "a", "-o", file)
    refuses("no pair 'flux2'", "a", "--pair", "flux2", "-o", out)
    refuses("no head 'none'", "a", "--pair", miniature, "--head", "none", "-o", out)
    refuses("device abacus can't be used here", "a", "--pair", miniature, "--device", "abacus", "-o", out)
    refuses("-o", "a")
    assert not out.exists()


def test_without_flux_it_says_what_is_missing(tmp_path: Path, undistill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    code, _, errors = undistill("generate", "a", "--pair", "flux1", "--raw", "-o", tmp_path / "out")
    assert code == 1
    assert errors.startswith("undistill: black-forest-labs/FLUX.1-schnell is not downloaded yet")
    assert "https://huggingface.co/black-forest-labs/FLUX.1-schnell" in errors
    assert len(errors.splitlines()) == 1
