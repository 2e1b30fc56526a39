"""What models weigh is public: the figures are those of their papers, cards and files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from tests.miniature_flow import write_klein, write_qwen_image, write_z_image
from undistill.base.errors import Failure
from undistill.pairs import networks as of_pairs
from undistill.pairs.load import WeightsRef
from undistill.pairs.networks import (
    CONFIGS,
    Network,
    _count_operations,
    drawing_cost,
    networks,
    parameters_at_once,
    read_config,
)
from undistill.pairs.spec import PairSpec, make_spec, read_spec, shipped_pairs


@pytest.fixture(scope="module")
def flux1() -> list[Network]:
    return networks(read_spec("flux1"))


def weighs(parts: list[Network]) -> dict[tuple[str, str], int]:
    return {(part.part, part.side): part.parameters for part in parts}


def test_flux1_weighs_what_it_does(flux1: list[Network]) -> None:
    assert weighs(flux1) == {
        ("transformer", "student"): 11_891_178_560,
        ("transformer", "teacher"): 11_901_408_320,
        ("text_encoder", "both"): 123_060_480,
        ("text_encoder_2", "both"): 4_762_310_656,
        ("vae", "both"): 83_819_683,
    }
    assert all(parameter.is_meta for part in flux1 for parameter in part.model.parameters())
    by_part = {(part.part, part.side): part for part in flux1}
    assert by_part["transformer", "teacher"].place == "black-forest-labs/FLUX.1-dev"
    assert by_part["transformer", "teacher"].held == by_part["transformer", "teacher"].download == 2 * 11_901_408_320


@pytest.mark.parametrize(
    ("name", "denoiser", "billions"),
    [("sdxl-turbo", "unet", 2.567), ("sd35-turbo", "transformer", 8.057)],
)
def test_the_other_families_too(name: str, denoiser: str, billions: float) -> None:
    found = weighs(networks(read_spec(name)))
    assert found[denoiser, "student"] == found[denoiser, "teacher"] == pytest.approx(billions * 1e9, rel=1e-3)
    assert found["text_encoder_2", "both"] == 694_659_840  # OpenCLIP bigG's text tower


@pytest.mark.parametrize(
    ("name", "denoiser", "words"),
    [
        ("flux2-klein", 3.876, 4.022),  # Qwen3-4B
        ("z-image-turbo", 6.155, 4.022),
        ("qwen-image-lightning", 20.430, 8.292),  # Qwen2.5-VL-7B
    ],
)
def test_todays_families(name: str, denoiser: float, words: float) -> None:
    found = weighs(networks(read_spec(name)))
    for side in ("student", "teacher"):
        assert found["transformer", side] == pytest.approx(denoiser * 1e9, rel=1e-3)
    assert found["text_encoder", "both"] == pytest.approx(words * 1e9, rel=1e-3)


@pytest.mark.parametrize("write", [write_klein, write_z_image, write_qwen_image])
def test_plans_todays_families(write: Callable[[Path], Path], tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path))
    parts = networks(spec)
    one, two = drawing_cost(spec, parts, 1), drawing_cost(spec, parts, 2)
    begins = write is write_klein  # one step more, which is thrown away
    assert (one.student_steps, one.teacher_steps) == (2, 2 + begins)
    assert one.teacher_flop > 0.9 * two.teacher_flop > 0
    assert one.student_flop > 0
    assert two.activations > one.activations


def test_fewer_bits() -> None:
    names = ("flux1", "flux1-nf4", "flux1-gguf")
    plain, nf4, gguf = (sum(part.held for part in networks(read_spec(name))) for name in names)
    assert nf4 == pytest.approx(4.5 / 16 * plain, rel=0.04)
    parts = {(part.part, part.side): part for part in networks(read_spec("flux1-gguf"))}
    # city96's flux1-dev-Q8_0.gguf is listed with 12.7 GB.
    assert parts["transformer", "teacher"].download == pytest.approx(12.7e9, rel=0.01)
    assert parts["text_encoder_2", "both"].held == 2 * 4_762_310_656
    assert nf4 < gguf < plain


@pytest.mark.e2e
def test_operations_and_memory_of_a_pass(flux1: list[Network]) -> None:
    todo = drawing_cost(read_spec("flux1"), flux1, 1)
    assert (todo.student_steps, todo.teacher_steps) == (4, 35)
    step = (todo.teacher_flop - todo.student_flop) / 31
    # 2 a weight and token: of 19 blocks with two streams of 113 M, one of 256 and one of 1,024 tokens, 38 of 141 M less
    # their modulation of 28 M, with all 1,280; and attention.
    wide = 3072
    blocks = 2 * (19 * 12 * wide**2 * 1280 + 38 * 12 * wide**2 * 1280) + 57 * 4 * 1280**2 * wide
    assert step == pytest.approx(blocks, rel=0.05)
    assert todo.activations < 1e9


def test_guidance_doubles_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both prompts at once; FLUX.1's guidance is an input, and costs nothing."""
    asked: list[int] = []

    def batches(_: Network, batch: int, *others: object) -> None:
        asked.append(batch)

    monkeypatch.setattr(of_pairs, "denoiser_pass", batches)
    monkeypatch.setattr(of_pairs, "_count_operations", lambda *_: (1.0, 1))
    for name, passes in (("sdxl-turbo", [4, 8]), ("flux1", [4, 4])):
        asked.clear()
        drawing_cost(read_spec(name), networks(read_spec(name)), 4)
        assert asked == passes


def test_counts_operations_and_living_bytes() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(64, 128, bias=False), nn.Linear(128, 32, bias=False))
    tokens = torch.zeros(10, 64, device="meta")
    flop, most = _count_operations(network, lambda: network(tokens))
    assert flop == 2 * 10 * (64 * 128 + 128 * 32)
    assert most == 4 * 10 * (128 + 32)
    query = torch.zeros(1, 2, 4096, 64, device="meta")
    _, most = _count_operations(network, lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))
    assert most < 2 * query.nbytes  # no matrix of 4096 x 4096


def test_what_group_offload_keeps() -> None:
    with torch.device("meta"):
        network = nn.Module()
        network.head = nn.Linear(10, 10, bias=False)
        network.blocks = nn.ModuleList([nn.Linear(100, 10, bias=False) for _ in range(5)])
    assert parameters_at_once(network) == 100 + 2 * 1000


def test_configurations_of_folders_and_of_shipped_repositories(miniature: Path) -> None:
    assert (
        read_config(WeightsRef(str(miniature.parent / "dev")), "vae/config.json")["_class_name"]
        == AutoencoderKL.__name__
    )
    assert read_config(WeightsRef("black-forest-labs/FLUX.1-dev"), "transformer/config.json")["guidance_embeds"]
    with pytest.raises(Failure, match=r"has no unet/config\.json"):
        read_config(WeightsRef(str(miniature.parent / "dev")), "unet/config.json")
    specs = [read_spec(name) for name in shipped_pairs()]
    used = {side.model for spec in specs for side in (spec.student, spec.teacher)}
    assert {path.stem for path in CONFIGS.glob("*.json")} == {name.replace("/", "--") for name in used if "/" in name}


def test_a_folders_networks_are_not_downloaded(miniature: Path) -> None:
    assert all(part.download == 0 for part in networks(read_spec(miniature)))
    spec = read_spec(miniature)
    alike: PairSpec = make_spec(
        {**spec.model_dump(), "student": {**spec.student.model_dump(), "model": spec.teacher.model, "rest": None}}
    )
    assert {part.side for part in networks(alike)} == {"both"}
