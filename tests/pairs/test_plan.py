import csv
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from PIL import Image

from tests.base.test_table import WIDTHS, shown
from tests.pairs.painter import Painter
from undistill.base.engines.local import in_process
from undistill.base.errors import UsageError
from undistill.images import Picture, encode
from undistill.pairs.create import create
from undistill.pairs.place import CUDA
from undistill.pairs.plan import GPUS, PNG_BYTES_PX, SUSTAINED, PairsPlan, pair_seconds, peak_memory, plan, show
from undistill.pairs.spec import read_spec
from undistill.prompts import make_prompts


@pytest.fixture(scope="module")
def flux1() -> PairsPlan:
    return plan(read_spec("flux1"), 140_000)


def test_flux1_on_gpus_of_80_24_and_16_gb(flux1: PairsPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    on = {found.gpu.memory // 1_000_000_000: found for found in flux1.gpus}
    assert {memory: found.offload for memory, found in on.items()} == {80: "none", 24: "group", 16: "group"}
    assert all(found.peak < found.gpu.memory for found in flux1.gpus)
    assert flux1.download == pytest.approx(57.5e9, rel=0.01)
    assert flux1.storage == pytest.approx(140_000 * 2 * 512**2 * PNG_BYTES_PX)
    # Of the same networks in fewer bits: to count their operations again would take seconds.
    monkeypatch.setattr("undistill.pairs.plan.drawing_cost", lambda *_: flux1.work)
    four, nf4 = (plan(read_spec(name), 1) for name in ("flux1-gguf", "flux1-nf4"))
    assert [found.offload for found in four.gpus] == ["none", "none", "model", "model"]
    assert [found.offload for found in nf4.gpus] == ["none", "none", "none", "model"]


def test_what_is_planned_fits_beside_cuda_itself() -> None:
    """Of Z-Image 12.3 GB of weights would, with the 4.5 GB of their activations they don't."""
    made = plan(read_spec("z-image-turbo"), 1)
    assert [found.offload for found in made.gpus] == ["none", "none", "model", "group"]
    assert all(found.fits for found in made.gpus)
    least = made.gpus[-1]
    small = replace(least, gpu=replace(least.gpu, memory=least.peak + CUDA - 1))
    assert "too small" in shown(partial(show, replace(made, gpus=[small])), 80)


def test_times_are_operations_over_a_rate_and_what_the_bus_takes(flux1: PairsPlan) -> None:
    parts, todo = flux1.networks, flux1.work
    gpu = GPUS[0]
    plain = (todo.student_flop + todo.teacher_flop) / (gpu.peak * SUSTAINED)
    assert pair_seconds(parts, todo, "none", gpu, 4) == pytest.approx(plain)
    # 24 GB and 24 GB and 9.8 GB once a batch, the autoencoder twice.
    moved = sum(part.held * (2 if part.part == "vae" else 1) for part in parts) / 20e9
    assert pair_seconds(parts, todo, "model", gpu, 4) == pytest.approx(plain + moved / 4)
    # 39 steps of 24 GB each, while the GPU computes; with larger batches there is nothing to wait for.
    assert pair_seconds(parts, todo, "group", gpu, 1) > 39 * 23.78e9 / 20e9
    assert pair_seconds(parts, todo, "group", gpu, 64) < 1.02 * plain


def test_the_peak_is_the_largest_that_is_there_at_once(flux1: PairsPlan) -> None:
    parts, todo = flux1.networks, flux1.work

    def held(*names: str) -> int:
        return sum(part.held for part in parts if part.part in names)

    denoisers = [part for part in parts if part.part == "transformer"]
    assert (
        peak_memory(parts, todo, "none")
        == held("transformer", "text_encoder", "text_encoder_2", "vae") + todo.activations
    )
    assert peak_memory(parts, todo, "model") == max(p.held for p in denoisers) + held("vae") + todo.activations
    assert peak_memory(parts, todo, "group") == held("text_encoder_2")  # T5 comes whole


def test_says_where_figures_come_from(flux1: PairsPlan) -> None:
    text = shown(partial(show, flux1), 200)
    for words in (
        "4 of the student, 35 of the teacher's 50", "11.90 B", "57.5 GB", "group", "Computed from the configurations",
        "Estimated times, not measured: at 40% of the GPU's peak", "hours for 140,000", "85.9 GB (1.17 bytes a pixel",
    ):  # fmt: skip
        assert words in text
    assert "Measured" not in text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("place", ["black-forest-labs/FLUX.1-schnell", "city96/FLUX.1-dev-gguf/flux1-dev-Q8_0.gguf"])
def test_fits_the_terminal(place: str, width: int, flux1: PairsPlan) -> None:
    made = replace(flux1, networks=[replace(part, place=place) for part in flux1.networks])
    said = shown(partial(show, made), width)
    for part in made.networks:
        assert f"{part.held / 1e6:.0f} MB" in said or f"{part.held / 1e9:.1f} GB" in said
    for words in ("parameters", "held as", "in memory", "download", place, "RTX 4080, 16 GB", "hours for 140,000"):
        assert words in said


def test_takes_times_and_sizes_from_pairs_drawn_here(miniature: Path, tmp_path: Path) -> None:
    spec, out = read_spec(miniature), tmp_path / "pairs"
    create(make_prompts("{name}", 6, seed=1), out, spec, partial(Painter, spec), 2, 1, in_process)
    with (out / "timings.csv").open() as file:
        rows = list(csv.DictReader(file))[1:]
    planned = plan(spec, 100, 1, out)
    assert planned.measured is not None
    assert planned.gpus == []  # of float32 the GPUs' peaks say nothing
    seconds = mean(float(row["student_s"]) + float(row["teacher_s"]) for row in rows)
    assert planned.measured.pairs == 5
    assert planned.measured.pair_s == pytest.approx(seconds)
    assert planned.storage == pytest.approx(100 / 6 * sum(path.stat().st_size for path in out.glob("*.parquet")))
    text = shown(partial(show, planned), 200)
    assert "Measured here, on 5 pairs" in text
    assert "as those drawn here" in text
    with pytest.raises(UsageError, match="holds pairs of another spec"):
        plan(read_spec("tiny"), 100, 1, out)
    (out / "timings.csv").unlink()
    with pytest.raises(UsageError, match=r"timings\.csv can't be read"):
        plan(spec, 100, 1, out)


@pytest.mark.shared
def test_bytes_of_a_pixel(portraits: Path) -> None:
    sizes = []
    for side in ("schnell", "dev"):
        for file in sorted((portraits / side).glob("*.jpg"))[::8]:
            pixels = np.asarray(Image.open(file).convert("RGB"))
            sizes.append(len(encode(Picture(pixels, None, "PNG"), pixels)) / pixels[..., 0].size)
    assert len(sizes) == 38 + 9  # of all 370 it is 1.169
    assert mean(sizes) == pytest.approx(PNG_BYTES_PX, abs=0.1)
