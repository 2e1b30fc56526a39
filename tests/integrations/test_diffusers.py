"""`undistill.wrap`, on small random pipelines of the real classes."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline, StableDiffusionXLPipeline
from PIL import Image

import undistill
from tests.conftest import strong
from tests.miniature import write_sdxl
from undistill.base.errors import UsageError
from undistill.enhance import Enhancer
from undistill.heads import Head, HeadError, UNet

ASKED: dict[str, Any] = {"num_inference_steps": 1, "height": 32, "width": 32}
SHORT = {"max_sequence_length": 16}


@pytest.fixture(scope="module")
def head() -> Head:
    return strong(UNet(width=4, depth=2))


@pytest.fixture(scope="module")
def flux(miniature: Path) -> Any:
    return quiet(FluxPipeline.from_pretrained(miniature.parent / "dev"))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("sdxl")
    write_sdxl(folder)
    return quiet(StableDiffusionXLPipeline.from_pretrained(folder / "turbo"))


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("family", ["flux", "sdxl"])
@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_the_images_are_the_enhancers_of_the_same_type(
    family: str, kind: str, head: Head, request: pytest.FixtureRequest
) -> None:
    pipe = request.getfixturevalue(family)
    asked = {**ASKED, **(SHORT if family == "flux" else {}), "num_images_per_prompt": 2, "output_type": kind}
    plain = pipe("a portrait", generator=seeded(), **asked).images
    answer = undistill.wrap(pipe, head)("a portrait", generator=seeded(), **asked)
    assert type(answer) is type(pipe("a portrait", generator=seeded(), **asked))
    made = answer.images
    assert type(made) is type(plain)
    assert len(made) == 2
    enhancer = Enhancer(head, "cpu")
    for number in range(2):
        if kind == "pil":
            expected: Any = np.asarray(enhancer(plain[number]))
            assert isinstance(made[number], Image.Image)
        else:
            expected = np.asarray(enhancer(plain)[number])
        assert np.array_equal(np.asarray(made[number]), expected)
        assert not np.array_equal(expected, np.asarray(plain[number]))


def test_latents_and_tuples(flux: Any, head: Head) -> None:
    pipe = undistill.wrap(flux, head)
    asked = {**ASKED, **SHORT}
    latents = pipe("a portrait", generator=seeded(), output_type="latent", **asked).images
    assert torch.equal(latents, flux("a portrait", generator=seeded(), output_type="latent", **asked).images)
    made = pipe("a portrait", generator=seeded(), output_type="np", return_dict=False, **asked)
    assert isinstance(made, tuple)
    assert np.array_equal(made[0], pipe("a portrait", generator=seeded(), output_type="np", **asked).images)


def test_strength_is_set_between_calls(flux: Any, head: Head) -> None:
    pipe = undistill.wrap(flux, head, strength=0)
    asked = {**ASKED, **SHORT, "output_type": "np"}
    plain = flux("a portrait", generator=seeded(), **asked).images
    assert np.array_equal(pipe("a portrait", generator=seeded(), **asked).images, plain)
    pipe.enhance.strength = 0.5
    half = pipe("a portrait", generator=seeded(), **asked).images
    assert np.array_equal(half, Enhancer(head, "cpu")(plain, 0.5))
    pipe.enhance.strength = 2
    with pytest.raises(ValueError, match="strength 2 is not between 0 and 1"):
        pipe("a portrait", generator=seeded(), **asked)


def test_an_image_goes_in_where_the_pipeline_takes_one(flux: Any, head: Head) -> None:
    pipe = undistill.wrap(quiet(FluxImg2ImgPipeline.from_pipe(flux)), head)
    image = Image.new("RGB", (32, 32), "teal")
    made = pipe(
        "a portrait", image=image, strength=0.9, generator=seeded(), **SHORT, **ASKED | {"num_inference_steps": 2}
    )
    assert made.images[0].size == (32, 32)


def test_what_else_is_asked_is_the_pipelines(flux: Any, head: Head) -> None:
    pipe = undistill.wrap(flux, head)
    assert pipe.vae is flux.vae
    assert pipe.to("cpu") is pipe
    scheduler = type(flux.scheduler).from_config(flux.scheduler.config)
    pipe.scheduler = scheduler
    assert flux.scheduler is scheduler
    assert copy.copy(pipe).pipeline is flux
    with pytest.raises(AttributeError, match="unknown"):
        _ = pipe.unknown
    assert not hasattr(flux, "enhance")


def test_the_head_goes_where_the_pipeline_runs(flux: Any, head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = undistill.wrap(flux, copy.deepcopy(head))
    assert pipe.enhance.device.type == "cpu"
    # An offloaded pipeline runs elsewhere than it waits.
    monkeypatch.setattr(type(flux), "_execution_device", torch.device("meta"))
    assert pipe.to("cpu").enhance.device.type == "meta"
    assert next(pipe.enhance.head.parameters()).is_meta


def test_refuses_in_words(flux: Any) -> None:
    with pytest.raises(HeadError, match="no head 'flux1-heavy'"):
        undistill.wrap(flux, "flux1-heavy")

    class Film:
        def __call__(self, num_frames: int, output_type: str = "pil") -> None: ...

    for other in (Film(), object(), undistill.wrap(flux, "tiny-best")):
        with pytest.raises(UsageError, match=r"(Film|object|WrappedPipeline) can't be wrapped: take a diffusers"):
            undistill.wrap(other, "tiny-best")
