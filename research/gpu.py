"""Everything that needs a GPU and has run on none, in one command of less than nine minutes.

    bash research/gpu.sh [OUT]          # installs nothing: needs undistill, pytest and a torch that sees the GPU
    python -m research.gpu -o gpu.json [--parts tests,heads,...]

Each part is a process with a limit of its own: one that hangs or fails costs the others nothing, and what is done
stands in the file at once. Parts:

    tests      `pytest -m gpu`
    heads      `undistill bench`: ways to an image and all heads at 256 to 2048 px, not compiled
    compiled   the same of the paper's head and of `flux1` at 512 px, compiled and captured
    training   ESA-CycleGAN beside the published loop at 512 px (research.training_speed)
    mmd        recipes of mode mmd at 512 px on random pairs, `flux1-512` and one with the paper's U-Net
    files      `undistill enhance` of a folder of 512 px beside its parts (research.enhance_speed), with batches
    flux       FLUX.1's networks of both sides with random weights: memory and seconds of a pass, beside `pairs plan`

Without a GPU the parts run too, at the smallest sizes, to see that they do: figures of such a run say nothing.
"""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

from undistill.base.command import run
from undistill.base.device import pick_device
from undistill.base.errors import UsageError
from undistill.bench.machine import machine
from undistill.bench.variants import wait
from undistill.dataset.samples import ImageFolders, Source
from undistill.metrics.results import write_json
from undistill.pairs.networks import denoiser_pass, networks
from undistill.pairs.plan import peak_memory, plan
from undistill.pairs.spec import read_spec
from undistill.training import find_recipe
from undistill.training.method import train_step
from undistill.training.recipe import Recipe, change_recipe, read_recipe
from undistill.training.speed import prepared

LIMITS = {"tests": 60, "heads": 120, "compiled": 80, "training": 60, "mmd": 80, "files": 40, "flux": 60}
"""Seconds of each part's process, together less than nine minutes with what lies between them."""
SPARE = 8
"""Seconds of them that a part has for itself: it begins, and tells."""
Command = Callable[[str, float], str]
"""Runs a command line of Python's arguments for so many seconds at most, and returns what it printed."""


def _run(line: str, limit: float) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(line)], timeout=limit, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout).strip()[-600:])
    return done.stdout


def tests(command: Command, folder: Path, small: bool) -> dict[str, Any]:
    """How many passed."""
    said = command(
        "pytest -m gpu -q -p no:cacheprovider tests" + (" --collect-only" if small else ""), LIMITS["tests"] - SPARE
    )
    return {"said": said.strip().splitlines()[-1]}


def _bench(command: Command, folder: Path, what: str, limit: float) -> dict[str, Any]:
    command(f"undistill bench --sizes {what} --rounds 6 -o {folder}", limit - SPARE)
    found: dict[str, Any] = json.loads((folder / "bench.json").read_text())
    return found


def heads(command: Command, folder: Path, small: bool) -> dict[str, Any]:
    """bench.json."""
    what = "64 --heads tiny-best" if small else "256,512,1024,2048 --heads all"
    return _bench(command, folder, f"{what} --no-compile", LIMITS["heads"])


def compiled(command: Command, folder: Path, small: bool) -> dict[str, Any]:
    """bench.json."""
    what = "64 --heads tiny-best --no-compile" if small else "512 --heads cyclegan-published --heads flux1 --compile"
    return _bench(command, folder, what, LIMITS["compiled"])


def training(command: Command, folder: Path, small: bool) -> dict[str, Any]:
    """The table of research.training_speed."""
    what = "--size 32 --width 4 --blocks 1 --turns 2" if small else "--size 512 --turns 6"
    return {"table": command(f"research.training_speed {what}", LIMITS["training"] - SPARE)}


def _pictures(folder: Path, side: int, count: int) -> Path:
    """Random ones."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        large = coarse.resize((side, side), Image.Resampling.BICUBIC)
        large.save(folder / f"{number:03d}.png", compress_level=1)
    return folder


UNET = {"head": {"architecture": "UNet", "width": 32, "depth": 6, "residual": True}, "anchor": "teacher", "batch": 4}
"""The paper's U-Net in a recipe of mode mmd, held to the teacher images of its pairs."""
MMD: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{name: (name, {}) for name in ("flux1-512/16gb", "flux1-512/24gb", "flux1-512/80gb")},
    "U-Net": ("flux1-512/16gb", {**UNET, "precision": "bf16-mixed"}),
}
"""Recipes and what is changed in them, by what they are called here."""
SMALL = {
    "data.size": 64,
    "data.crop": 64,
    "data.min_side": 64,
    "view": 32,
    "sides": [64],
    "data.workers": 0,
    "batch": 2,
}
"""Of a recipe, where there is no GPU."""


def _step_seconds(recipe: Recipe, source: Source) -> float:
    """The median of some steps on one batch, without those that warm up."""
    fabric, method, crops = prepared(recipe, source, "auto")
    both = zip(*(crops[k] for k in range(recipe.batch)), strict=True)
    x, y = (torch.stack(images).to(fabric.device) for images in both)
    seconds = []
    for step in range(12):
        begin = time.perf_counter()
        train_step(method, [(x, y)], step)
        wait(fabric.device)
        seconds.append(time.perf_counter() - begin)
    return median(seconds[4:])


def mmd(command: Command, folder: Path, small: bool) -> dict[str, Any]:
    """Of recipes at 512 px: images of a side a second, with none read meanwhile, and the peak of memory."""
    sides = [_pictures(folder / side, 64 if small else 512, 128) for side in ("student", "teacher")]
    source = ImageFolders([sides[0]], [sides[1]])
    found = {}
    for name, (recipe_name, changes) in MMD.items():
        narrow = {"head.width": 4, "head.depth": 2, "precision": "32-true"} if "head" in changes else {}
        recipe = change_recipe(read_recipe(find_recipe(Path(recipe_name))), changes)
        recipe = change_recipe(recipe, {**SMALL, **narrow}) if small else recipe
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        seconds = _step_seconds(recipe, source)
        found[name] = {
            "batch": recipe.batch,
            "images_s": round(recipe.batch / seconds, 1),
            "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        }
    return found


def files(command: Command, folder: Path, small: bool) -> dict[str, Any]:
    """The table of research.enhance_speed."""
    pictures = _pictures(folder / "in", 64 if small else 512, 4 if small else 200)
    device = "cpu" if small else "cuda"
    return {
        "table": command(f"research.enhance_speed {pictures} --device {device} --rounds 2", LIMITS["files"] - SPARE)
    }


def flux(command: Command, folder: Path, small: bool) -> dict[str, Any]:
    """Peak memory of a pass of each denoiser with all networks held, batches of four, beside the plan's."""
    spec = read_spec("tiny" if small else "flux1")
    where = pick_device(None)
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    parts = networks(spec)
    dtype = getattr(torch, spec.dtype)
    for part in parts:
        part.model.to_empty(device=where)
        for tensor in (*part.model.parameters(), *part.model.buffers()):
            tensor.data.zero_() if not tensor.is_floating_point() else tensor.data.uniform_(-0.02, 0.02)
    vae = next(part.model for part in parts if part.part == "vae")
    side = spec.size // 2 ** (len(vae.config.block_out_channels) - 1)
    zeros = partial(torch.zeros, device=where, dtype=dtype)
    seconds: dict[str, float] = {}
    with torch.no_grad():
        for part in (part for part in parts if part.part == "transformer"):
            of = spec.student if part.side == "student" else spec.teacher
            step = denoiser_pass(part, 4, side, of.max_sequence_length or 256, zeros)
            step()
            begin = time.perf_counter()
            for _ in range(3):
                step()
            wait(where)
            seconds[f"{part.side}, a step of 4"] = (time.perf_counter() - begin) / 3
        begin = time.perf_counter()
        vae.decode(zeros(4, vae.config.latent_channels, side, side))
        wait(where)
        seconds["decode 4"] = time.perf_counter() - begin
    planned = plan(spec, 1, 4)
    peak = torch.cuda.max_memory_allocated() if where.type == "cuda" else None
    estimate = peak_memory(planned.networks, planned.work, "none")
    return {"peak_bytes": peak, "planned_peak_bytes": estimate, "seconds": seconds}


PARTS: Mapping[str, Callable[[Command, Path, bool], dict[str, Any]]] = {
    "tests": tests, "heads": heads, "compiled": compiled, "training": training, "mmd": mmd, "files": files,
    "flux": flux,
}  # fmt: skip


def main(
    out: Annotated[Path, typer.Option("-o", "--out", help="The file of all figures.")] = Path("gpu.json"),
    parts: Annotated[str, typer.Option(help="With commas between.")] = ",".join(PARTS),
    alone: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the parts, each in a process of its own."""
    small = not torch.cuda.is_available()
    if alone is not None:
        with TemporaryDirectory() as folder:
            write_json(PARTS[alone](_run, Path(folder), small), out)
        return
    wanted = parts.split(",")
    if unknown := set(wanted) - PARTS.keys():
        raise UsageError(f"--parts: there is no {', '.join(sorted(unknown))}: take some of {', '.join(PARTS)}")
    found: dict[str, Any] = {
        "machine": machine(pick_device(None)),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "small": small,
    }
    for name in wanted:
        typer.echo(f"{name} ...", err=True)
        begin = time.perf_counter()
        file = out.with_name(f"{out.stem}-{name}.json")
        try:
            _run(f"research.gpu --alone {name} -o {file}", LIMITS[name])
            found[name] = json.loads(file.read_text())
            file.unlink()
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            found[name] = {"failed": re.sub(r"\s+", " ", str(error))[-600:]}
        found[name]["wall_s"] = round(time.perf_counter() - begin, 1)
        write_json(found, out)
    typer.echo(f"-> {out}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
