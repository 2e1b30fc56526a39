from pathlib import Path

import pytest
import torch
import yaml
from lightning_fabric import Fabric
from research.tiny.flow import draw_noise, interpolate
from research.tiny.model import Velocity, build_clip, build_t5, build_transformer, follow, pack, schedule, unpack
from research.tiny.recipe import FlowRecipe
from research.tiny.stages import _without_guidance
from research.tiny.tokenizers import LENGTH, clip_tokenizer
from torch import Tensor

RECIPE = Path(__file__).parents[3] / "research" / "tiny" / "recipes" / "flow.yaml"
CAPTIONS = ["A professional portrait of Ada Okafor", "A portrait of a 35 year old man"]


@pytest.fixture
def network() -> Velocity:
    """Random, and not zero where training begins with zero."""
    torch.manual_seed(0)
    recipe = FlowRecipe(
        **yaml.safe_load(RECIPE.read_text())
        | {"heads": 1, "double": 1, "single": 1, "text_width": 32, "text_layers": 1}
    )
    velocity = Velocity(
        build_transformer(recipe, 16), build_t5(recipe), build_clip(recipe, clip_tokenizer(CAPTIONS, recipe.vocabulary))
    )
    for parameter in velocity.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return velocity.eval()


def ids(count: int) -> tuple[Tensor, Tensor]:
    return torch.randint(3, 200, (count, LENGTH)), torch.randint(3, 200, (count, LENGTH))


def test_packing_is_undone() -> None:
    latents = torch.randn(2, 16, 8, 8)
    assert pack(latents).shape == (2, 16, 64)
    assert torch.equal(unpack(pack(latents), 8), latents)


def test_schedules_go_from_noise_to_nothing() -> None:
    assert schedule(4, 1.0) == [1.0, 0.75, 0.5, 0.25, 0.0]
    shifted = schedule(4, 3.0)
    assert shifted == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])


def test_a_straight_flow_is_followed_to_its_end_in_any_number_of_steps() -> None:
    x, noise = torch.randn(2, 3, 16, 8, 8)
    for steps in (1, 4, 7):
        assert torch.allclose(follow(lambda *_: noise - x, noise, schedule(steps, 1.5)), x, atol=1e-5)
    assert torch.allclose(interpolate(x, noise, torch.ones(3)), noise)
    assert torch.allclose(interpolate(x, noise, torch.zeros(3)), x)


def test_points_of_a_course_are_drawn_by_seed_and_mostly_in_the_middle() -> None:
    x = torch.zeros(2000, 1, 2, 2)
    noise, t = draw_noise(x, torch.Generator().manual_seed(1))
    assert torch.equal(t, draw_noise(x, torch.Generator().manual_seed(1))[1])
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert float(((t > 0.25) & (t < 0.75)).float().mean()) > 0.65


def test_bfloat16_does_not_touch_time_and_guidance(network: Velocity) -> None:
    """Rounded to 8 bits a guidance of 3.0 came out as 3.008, and t in 250 values."""
    seen: list[Tensor] = []
    network.transformer.time_text_embed.time_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    t, by = torch.tensor([0.9643, 0.1234]), torch.tensor([3.0, 1.5])
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    with torch.no_grad(), fabric.autocast():
        network(torch.randn(2, 16, 8, 8), t, network.encode(*ids(2)), by)
    assert torch.allclose(seen[0], 1000 * t)
    assert torch.allclose(seen[1], 1000 * by)


def test_guidance_can_be_baked_in(network: Velocity) -> None:
    baked = _without_guidance(network, 3.0)
    x, t = torch.randn(2, 16, 8, 8), torch.tensor([0.9, 0.2])
    with torch.no_grad():
        text = network.encode(*ids(2))
        expected = network(x, t, text, torch.tensor([3.0, 3.0]))
        assert torch.allclose(baked(x, t, text, None), expected, atol=1e-5)
        assert not torch.allclose(network(x, t, text, torch.tensor([1.0, 1.0])), expected, atol=1e-3)


def test_guidance_goes_beyond_the_caption(network: Velocity) -> None:
    x, t = torch.randn(2, 16, 8, 8), torch.tensor([0.9, 0.2])
    with torch.no_grad():
        text, empty = network.encode(*ids(2)), network.encode(*ids(1))
        ones = torch.ones(2)
        with_text = network(x, t, text, ones)
        without = network(x, t, (empty[0].expand(2, -1, -1), empty[1].expand(2, -1)), ones)
        assert torch.allclose(network.guided(x, t, text, empty, ones), with_text, atol=1e-5)
        by = torch.tensor([3.0, 0.0])
        guided = network.guided(x, t, text, empty, by)
    assert torch.allclose(guided[0], without[0] + 3 * (with_text - without)[0], atol=1e-4)
    assert torch.allclose(guided[1], without[1], atol=1e-5)
