"""Whole files of every kind that undistill reads, made by script, and the command that reads each.

Everything is so small that a command takes a fraction of a second.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from PIL import ExifTags, Image, features
from PIL.PngImagePlugin import PngInfo

from undistill.base.engines.local import in_process
from undistill.base.record import JOURNAL, RECORD, Record
from undistill.cli.options import call_verb
from undistill.dataset.samples import ImageFolders
from undistill.dataset.shard import DESCRIPTION
from undistill.heads import GridHead
from undistill.images import Pixels
from undistill.images.metadata import srgb_bytes
from undistill.pairs.create import create
from undistill.pairs.spec import PairSpec, read_spec
from undistill.prompts import as_lines, numbered
from undistill.training.recipe import make_recipe
from undistill.training.run import train

ULTRA_HDR = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:Container="http://ns.google.com/photos/1.0/container/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" dc:creator="Ada" hdrgm:Version="1.0"><Container:Directory><rdf:Seq>
<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li>
<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Length="66171"/></rdf:li>
</rdf:Seq></Container:Directory></rdf:Description></rdf:RDF></x:xmpmeta>"""
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
RECIPE: dict[str, Any] = {
    "mode": "unpaired",
    "head": {"architecture": "ResnetGenerator", "width": 2, "blocks": 1},
    "discriminator_width": 2,
    "data": {"crop": 32, "train": "all", "val": "all"},
    "batch": 1,
    "steps": 2,
    "lr": 1e-3,
    "save_every": 1,
    "validate_every": 2,
    "sample_every": 2,
}


class Painter:
    """Stands for a `Generator`: noise by seed, and its inverse."""

    def __init__(self, spec: PairSpec, *where: Any) -> None:
        self.size = spec.size

    def student(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        """Images of the seeds."""
        shape = (self.size, self.size, 3)
        return np.stack([np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed in seeds])

    def teacher(self, prompts: Sequence[str], seeds: Sequence[int], images: Pixels) -> Pixels:
        """Their inverse."""
        return 255 - images


@dataclass(frozen=True)
class Case:
    """A file to break, and the command that then reads it, both in a copy of the corpus.

    Args:
        file: relative to the copy.
        command: arguments of undistill.
        out: the folder that it writes, if it does: what lies there afterwards is whole.
    """

    file: str
    command: tuple[str, ...]
    out: str | None = None


def write_corpus(folder: Path) -> list[Case]:
    """Write the files, and say what is done with each."""
    folder.mkdir(parents=True)
    with chdir(folder), patch.dict(os.environ, UNDISTILL_CACHE="cache"), redirect_stdout(StringIO()):
        return [*_heads(), *_runs(), *_pairs(), *_texts(), *_sweeps(), *_measured()]


_HEAD = ("--head", "head", "--device", "cpu", "-o")
_SIDES = ("--student", "student", "--teacher", "teacher", "--device", "cpu")
_DRAW = ("pairs", "create", "--pair", "tiny", "--shard-size", "2", "--batch", "1", "--workers", "1", "--device", "cpu")


def _heads() -> Iterator[Case]:
    """Images, what enhances them, and the folder of one that has."""
    names = _images(Path("images"))
    yield from (Case(f"images/{name}", ("enhance", f"images/{name}", *_HEAD, "out"), "out") for name in names)
    torch.manual_seed(0)
    GridHead(width=4).save_pretrained(Path("head"))
    for name in ("config.json", "model.safetensors"):
        yield Case(f"head/{name}", ("enhance", "images/plain.png", *_HEAD, "out"), "out")

    for fold, val in enumerate(("0:0.5", "0.5:1")):
        run = Path("folds", f"fold-{fold}")
        GridHead(width=4).save_pretrained(run / "head")
        (run / "head" / "metrics.json").write_text(json.dumps({"step": 2}))
        (run / "recipe.yaml").write_text(yaml.safe_dump({"data": {"val": val}}))
    for side in ("student", "teacher"):
        Path(side).mkdir()
        for k in range(4):
            picture(48, seed=k + 10 * (side == "teacher")).save(f"{side}/{k}.png")
    of_folds = ("enhance", "student", "--folds", "folds", "--device", "cpu", "-o", "out")
    for name in ("recipe.yaml", "head/metrics.json", "head/config.json"):
        yield Case(f"folds/fold-0/{name}", of_folds, "out")

    again = ("enhance", "images/plain.png", "images/full.webp", *_HEAD, "done")
    call_verb(again)
    record = Record(Path("done"))
    for name, entry in dict(record.files).items():  # as a kill leaves it
        record.note(Path(name), entry)
    yield from (Case(f"done/{name}", again, "done") for name in (RECORD, JOURNAL, "plain.png"))


def _runs() -> Iterator[Case]:
    """Recipes, and a run."""
    Path("recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    train(make_recipe(RECIPE), ImageFolders([Path("student")], [Path("teacher")]), Path("run"), device="cpu")
    begin = ("train", "recipe.yaml", *_SIDES, "--max-steps", "1", "-o", "new")
    yield from (Case(file, begin, "new") for file in ("recipe.yaml", "student/0.png", "teacher/1.png"))
    go_on = ("train", "recipe.yaml", *_SIDES, "-o", "run")
    for name in ("last.safetensors", "recipe.yaml", "data.json", "metrics.csv"):
        yield Case(f"run/{name}", go_on, "run")


def _pairs() -> Iterator[Case]:
    """Prompts, a pairs data set and one that lost its description, an enhanced one."""
    prompts, spec = numbered([f"A portrait of {name}" for name in "abcd"], 5), read_spec("tiny")
    Path("prompts.jsonl").write_bytes(as_lines(prompts))
    yield Case("prompts.jsonl", (*_DRAW, "--prompts", "prompts.jsonl", "-o", "new"), "new")
    create(prompts, Path("pairs"), spec, lambda: Painter(spec), 2, 1, in_process)
    call_verb(("enhance", "pairs", *_HEAD, "shards"))
    for name in (DESCRIPTION, "shard-000000.parquet"):
        yield Case(f"pairs/{name}", ("pairs", "verify", "pairs"))
        yield Case(f"pairs/{name}", ("enhance", "pairs", *_HEAD, "out"), "out")
        yield Case(f"pairs/{name}", (*_DRAW, "--prompts", "prompts.jsonl", "-o", "pairs"), "pairs")
        yield Case(f"shards/{name}", ("enhance", "pairs", *_HEAD, "shards"), "shards")
    yield Case("pairs/prompts.jsonl", ("pairs", "verify", "pairs"))
    yield Case("pairs/timings.csv", ("pairs", "plan", "--pair", "tiny", "--count", "4", "--drawn", "pairs"))
    shutil.copytree("pairs", "lost")
    Path("lost", DESCRIPTION).unlink()
    for name in ("prompts.jsonl", "timings.csv", "shard-000001.parquet"):
        yield Case(f"lost/{name}", ("pairs", "recover", "lost"))
    Path("spec.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    yield Case("spec.yaml", ("generate", "A portrait", "--pair", "spec.yaml", "--raw", "-o", "new"), "new")


def _texts() -> Iterator[Case]:
    """Names, and a judge's answers."""
    Path("names.txt").write_text("Ada Okafor\nBen Miller\nChen Wei\n")
    yield Case("names.txt", ("prompts", "--names", "names.txt", "--count", "3", "-o", "new.jsonl"))
    header = {"version": 1, "names": ["a", "b"], "seed": 0, "pairs": 2, "question": "?", "study": "0"}
    votes = [{"pair": str(k), "left": "a", "choice": "left"} for k in range(2)]
    Path("answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *votes)))
    yield Case("answers.jsonl", ("judge", "--summary", "answers.jsonl"))


def _sweeps() -> Iterator[Case]:
    """Grids, and a sweep that is done."""
    Path("grids.yaml").write_text(yaml.safe_dump({"a": {"recipe": "recipe.yaml", "grid": {"lr": [1e-3, 2e-3]}}}))
    sweep = ("sweep", "run", "grids.yaml", "--data", "pairs", "--max-steps", "1", "--device", "cpu", "-o")
    yield Case("grids.yaml", (*sweep, "new"), "new")
    call_verb((*sweep, "sweep"))
    for name in ("sweep.json", "sweep.db"):
        yield Case(f"sweep/{name}", (*sweep, "sweep"), "sweep")
        yield Case(f"sweep/{name}", ("sweep", "report", "sweep"))


def _measured() -> Iterator[Case]:
    """What was measured, what of it is kept, and the card of a head."""
    for number, side in enumerate(("student", "teacher")):
        Path("seen", side).mkdir(parents=True)
        for k in range(8):
            picture(64, seed=k + 10 * number).save(f"seen/{side}/{k}.png")
    call_verb(("enhance", "seen/student", *_HEAD, "seen/mine"))
    sides = ("--student", "seen/student", "--teacher", "seen/teacher", "--enhanced", "mine=seen/mine")
    measure = ("evaluate", *sides, "--features", "appearance", "--no-baselines", "--device", "cpu")
    kept = set(Path("cache", "rows").iterdir())
    call_verb((*measure, "-o", "seen/results.json"))
    yield Case(f"seen/mine/{RECORD}", measure)
    yield Case("seen/teacher/0.png", measure)
    yield from (Case(row.as_posix(), measure) for row in sorted({*Path("cache", "rows").iterdir()} - kept))
    yield Case("seen/results.json", (*measure, "-o", "seen/results.json"), "seen")
    card = ("card", "run", "--results", "seen/results.json")
    for name in ("seen/results.json", "run/data.json", "run/recipe.yaml", "run/head/metrics.json"):
        yield Case(name, card)


def picture(size: int = 40, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A few blurred patches of colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).convert(mode)


_IPTC = b"8BIM\x04\x04\0\0\0\0\0\x08\x1c\x02\x50\x00\x03Ada"


def _segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data


def _images(folder: Path) -> list[str]:
    """One of each format and mode, with all the metadata that it can hold."""
    folder.mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "Ada Okafor"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 40
    icc, text = srgb_bytes(), PngInfo()
    text.add_text("parameters", "A professional portrait of Ada Okafor\nSteps: 4")
    text.add_text("workflow", json.dumps({"nodes": list(range(300))}), zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    said = {"exif": exif, "icc_profile": icc}
    made: dict[str, Callable[[BytesIO], None]] = {
        "plain.png": lambda file: picture().save(file, "PNG"),
        "full.png": lambda file: picture(mode="RGBA").save(file, "PNG", pnginfo=text, **said),
        "palette.png": lambda file: picture(mode="P").save(file, "PNG", transparency=3),
        "deep.png": lambda file: Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40).save(
            file, "PNG"
        ),
        "full.jpg": lambda file: picture().save(file, "JPEG", xmp=XMP, comment=b"by hand", **said),
        "hdr.jpg": lambda file: picture().save(file, "JPEG", xmp=ULTRA_HDR, extra=_segment(0xEB, b"JP\0\0jumbc2pa")),
        "press.jpg": lambda file: picture().save(file, "JPEG", extra=_segment(0xED, b"Photoshop 3.0\0" + _IPTC)),
        "grey.jpg": lambda file: picture(mode="L").save(file, "JPEG"),
        "cmyk.jpg": lambda file: picture(mode="CMYK").save(file, "JPEG", progressive=True),
        "full.webp": lambda file: picture().save(file, "WEBP", xmp=XMP, **said),
        "exact.webp": lambda file: picture(mode="RGBA").save(file, "WEBP", lossless=True),
        "full.tif": lambda file: picture().save(file, "TIFF", exif=exif, icc_profile=icc),
        "packed.tif": lambda file: picture().save(file, "TIFF", compression="tiff_lzw"),
        "a.bmp": lambda file: picture().save(file, "BMP"),
        "b.gif": lambda file: picture().save(file, "GIF"),
    }
    if features.check("avif"):
        made["full.avif"] = lambda file: picture().save(file, "AVIF", xmp=XMP, **said)
    for name, save in made.items():
        buffer = BytesIO()
        save(buffer)
        (folder / name).write_bytes(buffer.getvalue())
    return list(made)
