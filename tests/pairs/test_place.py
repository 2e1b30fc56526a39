from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.pairs.test_generator import PROMPTS, changed
from undistill.pairs.generator import Generator
from undistill.pairs.place import NetworkPlacement, Offload, choose_offload, weight_bytes

GB = 1_000_000_000
FLUX1 = [24 * GB, 24 * GB, 10 * GB]


@pytest.mark.parametrize(
    ("weights", "memory", "offload"),
    [
        (FLUX1, 80, "none"),
        (FLUX1, 48, "model"),
        (FLUX1, 24, "group"),
        (FLUX1, 16, "group"),
        ([7 * GB, 7 * GB, 3 * GB], 24, "none"),
        ([7 * GB, 7 * GB, 3 * GB], 16, "model"),
    ],
)
def test_the_fastest_that_fits(weights: list[int], memory: int, offload: Offload) -> None:
    assert choose_offload(weights, memory * GB, 3 * GB) == offload
    assert choose_offload([(memory - 3) * GB], memory * GB, 3 * GB) == "none"


@pytest.fixture(scope="module")
def drawn(miniature: Path) -> tuple[np.ndarray, np.ndarray]:
    return draw(Generator(miniature, "cpu"))


def draw(generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    student = generator.student(PROMPTS, [1, 2])
    return student, generator.teacher(PROMPTS, [1, 2], student)


@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_images_are_the_same_wherever_networks_lie(
    miniature: Path, offload: Offload, drawn: tuple[np.ndarray, np.ndarray]
) -> None:
    generator = Generator(miniature, "cpu", offload)
    assert generator._student.vae.use_slicing
    for _ in range(2):  # the student again, after the teacher
        for images, before in zip(draw(generator), drawn, strict=True):
            assert np.abs(images.astype(int) - before).max() <= 1  # sums of other sizes: slicing


def watch(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What comes to the device and what leaves it from now on, in order."""
    seen: list[str] = []

    def told(what: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def tell(*arguments: Any, **options: Any) -> Any:
            seen.append(what)
            return act(*arguments, **options)

        return tell

    for network, hook in generator._networks._hooks.items():
        name = generator._networks._names[network]
        if network is generator._teacher.transformer:
            name = "teacher"
        elif network is generator._student.transformer:
            name = "student"
        monkeypatch.setattr(hook.hook, "pre_forward", told(f"{name} comes", hook.hook.pre_forward))
        monkeypatch.setattr(hook, "offload", told(f"{name} leaves", hook.offload))
    return seen


def test_by_model_a_network_leaves_when_it_has_run(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(changed(miniature, student={"steps": 1}), "cpu", "model")
    student = generator.student(PROMPTS, [1, 2])
    generator.teacher(PROMPTS, [1, 2], student)
    seen = watch(generator, monkeypatch)
    asked = ["a portrait of cy", "a portrait of di"]
    generator.student(asked, [1, 2])
    # The text encoders have left before the transformer comes; all has left at the end.
    assert seen[:5] == [
        "text_encoder comes", "text_encoder_2 comes", "text_encoder leaves", "text_encoder_2 leaves", "student comes",
    ]  # fmt: skip
    assert seen[5] == "vae comes"
    assert {"student leaves", "vae leaves"} <= set(seen[6:])
    seen.clear()
    generator.teacher(asked, [1, 2], student)
    assert [what for what in seen if what.endswith("comes")] == [
        "vae comes", "vae comes", "teacher comes", "teacher comes", "vae comes",
    ]  # fmt: skip
    assert {"teacher leaves", "vae leaves"} <= set(seen)


def test_by_group_denoisers_come_block_by_block(miniature: Path) -> None:
    generator = Generator(miniature, "cpu", "group")
    networks = generator._networks
    ways = {networks._names[network]: way for network, way in networks._ways.items()}
    assert ways == {"transformer": "group", "text_encoder": "model", "text_encoder_2": "model", "vae": "model"}
    blocks = generator._student.transformer.transformer_blocks
    assert all(block._diffusers_hook.get_hook("group_offloading") for block in blocks)


def test_where_they_lie_follows_the_gpus_memory(miniature: Path) -> None:
    """As on a GPU, whose memory the student alone doesn't fill."""
    generator = Generator(miniature, "cpu")
    networks = generator._networks
    networks._working = 0
    denoiser = weight_bytes(generator._student.transformer)
    networks._memory = sum(map(weight_bytes, networks._names)) + denoiser // 2
    networks._place([])
    assert set(networks._ways.values()) == {"none"}
    networks.make_room(denoiser)
    assert set(networks._ways.values()) == {"model"}  # before the teacher is loaded
    generator._teacher  # noqa: B018
    assert set(networks._ways.values()) == {"model"}
    networks._memory = denoiser - 1
    networks._place([])
    assert set(networks._ways.values()) == {"model", "group"}
    draw(generator)


def test_networks_are_placed_once(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[Any] = []
    move = NetworkPlacement._move

    def note(self: NetworkPlacement, network: nn.Module, way: Offload) -> None:
        placed.append(network)
        move(self, network, way)

    monkeypatch.setattr(NetworkPlacement, "_move", note)
    draw(Generator(miniature, "cpu", "model"))
    assert len(placed) == len(set(placed)) == 5


def test_sizes_are_those_in_memory() -> None:
    layer = nn.Linear(64, 32, bias=False)
    assert weight_bytes(layer) == 64 * 32 * 4
    assert weight_bytes(layer.to(torch.bfloat16)) == 64 * 32 * 2
    quantisation = pytest.importorskip("torchao.quantization")
    quantisation.quantize_(layer, quantisation.Int8WeightOnlyConfig(version=2))
    assert 64 * 32 <= weight_bytes(layer) <= 64 * 32 + 32 * 8  # and a scale a row


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("offload", ["model", "group"])
def test_on_a_gpu(miniature: Path, offload: Offload) -> None:
    generator = Generator(miniature, "cuda", offload)
    for images, before in zip(draw(generator), draw(Generator(miniature, "cuda", "none")), strict=True):
        assert np.abs(images.astype(int) - before).max() <= 1
    assert next(generator._student.text_encoder_2.parameters()).device.type == "cpu"
