"""What does one very large image take, by every backend?

    python -m research.large_image [--head flux1] [--side 8192] [-o docs/figures]

A process for each backend enhances an image of noise, after a small one that loads what is loaded once. Prints seconds
and the peak of memory above that, the image and the result included, as a Markdown table. With -o they are written to
large-image-seconds.json and large-image.json there.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer

from research.figures import Row, write_rows
from undistill.base.command import run
from undistill.base.machine import keep_memory
from undistill.bench.memory import peak_above
from undistill.enhance import Enhancer
from undistill.enhance.backends import BackendName
from undistill.heads.head import shipped_heads

BACKENDS: tuple[BackendName, ...] = ("torch", "contiguous", "compile", "onnx", "openvino")


def main(
    head: Annotated[list[str] | None, typer.Option(help="[default: all that are shipped]")] = None,
    side: Annotated[int, typer.Option(min=64)] = 8192,
    backend: Annotated[list[str] | None, typer.Option(help=f"[default: {', '.join(BACKENDS)}]")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out")] = None,
) -> None:
    """Measure heads and backends, each in a process of its own."""
    print(f"| {side} x {side} px: head | backend | seconds | peak, MB |\n| --- | --- | --- | --- |")
    rows: dict[str, list[Row]] = {"large-image-seconds": [], "large-image": []}
    for each in backend or BACKENDS:
        for found in rows.values():
            found.append({"backend": each})
        for name in head or shipped_heads():
            command = [sys.executable, "-m", "research.large_image", name, each, str(side)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"| {name} | {each} | {done.stderr.strip().splitlines()[-1]} | |", flush=True)
                continue
            seconds, peak = done.stdout.split()
            print(f"| {name} | {each} | {seconds} | {int(peak):,} |", flush=True)
            rows["large-image-seconds"][-1][f"`{name}`"] = int(seconds)
            rows["large-image"][-1][f"`{name}`"] = int(peak)
    if out is not None:
        n = f"one image of noise, {side} x {side} px, a process each, {torch.get_num_threads()} threads"
        for name, some in rows.items():
            write_rows(some, out / f"{name}.json", n)


def measure(name: str, backend: BackendName, side: int) -> str:
    """Seconds, and MB."""
    keep_memory()  # as the command line does
    enhancer = Enhancer(name, "cpu", backend=backend)
    enhancer(np.zeros((64, 64, 3), np.uint8))
    begun = time.perf_counter()

    def enhance() -> None:
        image = np.tile(np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8), (8, 8, 1))
        enhancer(image)

    peak = peak_above(enhance)
    return f"{time.perf_counter() - begun:.0f} {peak / 1e6:.0f}"


if __name__ == "__main__":
    if len(sys.argv) == 4 and not sys.argv[1].startswith("-"):
        print(measure(sys.argv[1], cast(BackendName, sys.argv[2]), int(sys.argv[3])))
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(main)
        run(app)
