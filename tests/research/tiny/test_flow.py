from pathlib import Path

import pytest
import torch
import yaml
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from lightning_fabric import Fabric
from research.tiny.flow import Segments, dev_schedule, draw_noise, interpolate
from research.tiny.model import Velocity, build_clip, build_t5, build_transformer, follow, pack, schedule, unpack
from research.tiny.recipe import DistillationRecipe, FlowRecipe, read_stage
from research.tiny.student import with_blocks, without_guidance
from research.tiny.tokenizers import LENGTH, clip_tokenizer
from torch import Tensor

from undistill.base.errors import UsageError

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
    parts = [schedule(2, 3.0, 1.0, 0.75), schedule(2, 3.0, 0.75, 0.0)]
    assert [*parts[0][:-1], *parts[1]] == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])
    assert parts[0][-1] == 0.75


def test_dev_schedule_is_the_pipelines() -> None:
    for side in (8, 16):
        mu = calculate_shift((side // 2) ** 2)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
        scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25], mu=mu)
        assert dev_schedule(4, torch.zeros(1, 16, side, side)) == pytest.approx(scheduler.sigmas.tolist())


def test_a_straight_flow_is_followed_to_its_end_in_any_number_of_steps() -> None:
    x, noise = torch.randn(2, 3, 16, 8, 8)
    for steps in (1, 4, 7):
        assert torch.allclose(follow(lambda *_: noise - x, noise, schedule(steps, 1.5)), x, atol=1e-5)
    assert torch.allclose(interpolate(x, noise, torch.ones(3)), noise)
    assert torch.allclose(interpolate(x, noise, torch.zeros(3)), x)


def test_points_of_a_course_are_drawn_by_seed_and_mostly_in_the_middle() -> None:
    x = torch.zeros(2000, 1, 2, 2)
    noise, t = draw_noise(x, torch.Generator().manual_seed(1), 1.0)
    assert torch.equal(t, draw_noise(x, torch.Generator().manual_seed(1), 1.0)[1])
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert float(((t > 0.25) & (t < 0.75)).float().mean()) > 0.65
    shifted = draw_noise(x, torch.Generator().manual_seed(1), 2.0)[1]
    assert torch.allclose(shifted / (1 - shifted), 2 * t / (1 - t), rtol=1e-3)


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
    baked = without_guidance(network, 3.0)
    x, t = torch.randn(2, 16, 8, 8), torch.tensor([0.9, 0.2])
    with torch.no_grad():
        text = network.encode(*ids(2))
        expected = network(x, t, text, torch.tensor([3.0, 3.0]))
        assert torch.allclose(baked(x, t, text, None), expected, atol=1e-5)
        assert not torch.allclose(network(x, t, text, torch.tensor([1.0, 1.0])), expected, atol=1e-3)


def test_a_student_of_all_blocks_says_the_same_and_one_of_half_has_half(network: Velocity) -> None:
    x, t = torch.randn(2, 16, 8, 8), torch.tensor([0.9, 0.2])
    baked = without_guidance(network, 3.0)
    with torch.no_grad():
        text = network.encode(*ids(2))
        assert torch.equal(with_blocks(baked, None, None)(x, t, text, None), baked(x, t, text, None))
    four = {**baked.transformer.config, "num_layers": 2, "num_single_layers": 4}
    large = Velocity(FluxTransformer2DModel.from_config(four), network.t5, network.clip)
    half = with_blocks(large, 1, 2).transformer
    blocks = large.transformer.single_transformer_blocks
    for place, kept in zip((0, 3), half.single_transformer_blocks, strict=True):
        assert torch.equal(kept.proj_out.weight, blocks[place].proj_out.weight)
    assert torch.equal(half.x_embedder.weight, large.transformer.x_embedder.weight)
    assert len(half.transformer_blocks) == 1
    with pytest.raises(UsageError, match="keeps 5 blocks of 4"):
        with_blocks(large, None, 5)


@pytest.mark.parametrize("begin", ["faces", "courses"])
def test_a_segment_teaches_where_the_teacher_goes(network: Velocity, begin: str) -> None:
    recipe = read_stage(RECIPE.parent / "128" / "distillation.yaml")
    assert isinstance(recipe, DistillationRecipe)
    lesson = Segments(network, recipe.model_copy(update={"segments": 2, "teacher_steps": 3, "begin": begin}))
    x, words, random = torch.randn(2, 16, 8, 8), ids(2), torch.Generator().manual_seed(5)
    asked: list[tuple[Tensor, Tensor]] = []

    def student(at: Tensor, t: Tensor, text: tuple[Tensor, Tensor], guidance: None) -> Tensor:
        assert len(text[0]) == len(text[1]) == len(at) == 4
        assert torch.equal(text[0][:2], text[0][2:])
        asked.append((at, t))
        return torch.zeros_like(at)

    _, right = lesson(student, (x, *words), random)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    at, t = asked[0]
    assert t.tolist() == [1, 1, 0.5, 0.5]
    by, text = torch.full((2,), recipe.guidance), network.encode(*words)
    whole = dev_schedule(3, noise, 1.0, 0.5), dev_schedule(3, noise, 0.5, 0.0)
    half_way = follow(lambda x, t: network(x, t, text, by), noise, whole[0])
    second = half_way if begin == "courses" else (x + noise) / 2
    assert torch.allclose(at, torch.cat([noise, second]), atol=1e-5)
    end = follow(lambda x, t: network(x, t, text, by), second, whole[1])
    # A student that says what is right arrives where the teacher does.
    assert torch.allclose(noise - right[:2] / 2, half_way, atol=1e-4)
    assert torch.allclose(second - right[2:] / 2, end, atol=1e-4)
    assert not right.requires_grad


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
