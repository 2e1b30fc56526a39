import time
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from undistill.base.errors import Failure
from undistill.bench import alone, variants
from undistill.bench.alone import MINUTES, head_row, measure_alone
from undistill.bench.machine import LIMITS
from undistill.bench.variants import PUBLISHED, SLOW_BF16, VARIANTS, Variant, load_head, prepare_run
from undistill.heads import Head, ResnetGenerator, UNet

CPU = torch.device("cpu")
FP32 = VARIANTS[0]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Head:
    """A head, with a reference as small."""
    monkeypatch.setattr(alone, "load_head", lambda name: ResnetGenerator(width=4, blocks=1).eval())
    return UNet(width=4, depth=2).eval()


Limits = dict[str, Callable[[torch.device, torch.dtype], tuple[Callable[[], object], float]]]


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Limits that are no work: these crawl in bfloat16 where the CPU has none."""

    def limit(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
        x = torch.rand(16, 16, dtype=dtype)
        return lambda: x @ x, 1.0

    limits: Limits = dict.fromkeys(LIMITS, limit)
    monkeypatch.setattr(alone, "LIMITS", limits)
    return limits


@pytest.fixture(params=[True, False], ids=["bf16", "no bf16"])
def bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """What the CPU is said to have, whatever it has."""
    for module in (alone, variants):
        monkeypatch.setattr(module, "has_bfloat16", lambda device: request.param)
    return bool(request.param)


def test_rates_follow_from_seconds_and_ratios_from_the_same_round() -> None:
    row = head_row([0.5, 1.0, 0.5], 4.0, {"convolution": [16.0, 8.0, 16.0], "matmul": None}, [1.0, 2.0, 1.0])
    got = {name: value.value for name, value in row.items()}
    assert got == {
        "seconds": 0.5,
        "seconds_mean": pytest.approx(2 / 3),
        "images_per_s": 2.0,
        "gflop": 4.0,
        "gflop_per_s": 8.0,
        "of_convolution": 0.5,
        "of_matmul": None,
        "times": 2.0,
    }
    assert row["of_matmul"].why == "no matmul in this precision"
    assert head_row([1.0], 1.0, {}, None)["times"].why == "the published generator can't run"


def test_the_reference_is_the_published_generator() -> None:
    published = load_head(PUBLISHED)
    assert sum(parameter.numel() for parameter in published.parameters()) == 11_378_179
    assert published.gflop(512) == pytest.approx(396, abs=1)
    assert published.gflop(64) == pytest.approx(396 / 64, rel=0.01)


@pytest.mark.parametrize("name", LIMITS)
def test_the_work_of_a_limit_is_what_torch_counts(name: str) -> None:
    run, gflop = LIMITS[name](CPU, torch.float32)
    with FlopCounterMode(display=False) as counter:
        run()
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop)


@pytest.mark.usefixtures("low")
def test_every_variant_has_figures_or_a_reason(small: Head, bf16: bool) -> None:
    rows, limits = measure_alone({"mine": small}, 70, 2, 60.0, CPU, compiles=False)
    mine = rows["mine"]
    assert list(mine) == ["fp32", "channels-last", "bf16", "compiled", "CUDA graphs"]
    for variant in ("fp32", "channels-last", *(["bf16"] if bf16 else [])):
        for metric, value in mine[variant].items():
            assert (value.value or 0) > 0, metric
            assert value.n == (1 if metric == "gflop" else 2)
    assert mine["compiled"]["seconds"].why == MINUTES
    assert mine["CUDA graphs"]["seconds"].why == "needs a CUDA GPU"
    assert list(rows[PUBLISHED]) == ["fp32"]
    assert rows[PUBLISHED]["fp32"]["times"].value == 1
    assert list(limits) == ["float32", "bfloat16"]
    assert all((limits["float32"][name].value or 0) > 0 for name in LIMITS)
    if bf16:
        assert all((limits["bfloat16"][name].value or 0) > 0 for name in LIMITS)
    else:
        left_out = [mine["bf16"]["seconds"], *limits["bfloat16"].values()]
        assert [(value.value, value.why) for value in left_out] == 3 * [(None, SLOW_BF16)]


@pytest.mark.parametrize("bf16", [True], indirect=True)
def test_what_torch_cannot_do_is_a_reason(small: Head, bf16: bool, low: Limits) -> None:
    def broken(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
        def run() -> object:
            raise RuntimeError(f"no {dtype} here")

        return (run if dtype == torch.bfloat16 else lambda: time.sleep(0.001)), 1.0

    low["matmul"] = broken
    rows, limits = measure_alone({"mine": small}, 64, 1, 60.0, CPU, compiles=False)
    assert limits["bfloat16"]["matmul"].why == "no torch.bfloat16 here"
    assert rows["mine"]["bf16"]["of_matmul"].value is None
    assert rows["mine"]["fp32"]["of_matmul"].value is not None


@pytest.mark.parametrize("bf16", [True], indirect=True)
def test_variants_draw_the_same_picture(small: Head, bf16: bool) -> None:
    pictures = {variant.name: prepare_run(small, variant, 64, CPU)() for variant in VARIANTS[:3]}
    plain = pictures["fp32"]
    assert isinstance(plain, torch.Tensor)
    assert plain.shape == (1, 3, 64, 64)
    for name, bound in (("channels-last", 1e-4), ("bf16", 0.1)):
        other = pictures[name]
        assert isinstance(other, torch.Tensor)
        assert (other - plain).abs().max() < bound
    padded = prepare_run(small, FP32, 17, CPU)()
    assert isinstance(padded, torch.Tensor)
    assert padded.shape[-1] == 64  # the least the head takes


@pytest.mark.parametrize("bf16", [True], indirect=True)
def test_bf16_is_left_out_where_it_changes_the_picture(
    small: Head, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Head, "_bf16_psnr", lambda self: 20.0)
    with pytest.raises(Failure, match="bfloat16 changes"):
        prepare_run(small, Variant("bf16", bf16=True), 64, CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_all_variants_run(small: Head) -> None:
    rows, _ = measure_alone({"mine": small}, 64, 2, 60.0, torch.device("cuda"), compiles=True)
    for variant, row in rows["mine"].items():
        assert row["seconds"].value is not None, (variant, row["seconds"].why)
        assert variant == "CUDA graphs" or (row["peak_mb"].value or 0) > 0
