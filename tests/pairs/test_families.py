"""The shipped pairs of other families, on miniatures of their classes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image
from PIL import Image

from tests.miniature import write_sd35, write_sdxl
from tests.miniature_flow import write_klein, write_qwen_image, write_z_image
from tests.pairs.test_generator import PROMPTS, difference
from undistill.pairs.generator import Generator
from undistill.pairs.spec import read_spec


@pytest.mark.parametrize(
    ("write", "name", "kinds"),
    [
        (write_sdxl, "sdxl-turbo", ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline")),
        (write_sd35, "sd35-turbo", ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline")),
    ],
)
def test_draws_as_the_shipped_spec_does(
    write: Callable[[Path], Path], name: str, kinds: tuple[str, str], tmp_path: Path
) -> None:
    spec, shipped = read_spec(write(tmp_path)), read_spec(name)
    for side, real in ((spec.student, shipped.student), (spec.teacher, shipped.teacher)):
        assert (side.rest is None, side.max_sequence_length is None) == (
            real.rest is None,
            real.max_sequence_length is None,
        )
    assert shipped.teacher.rest == shipped.student.model
    generator = Generator(spec, "cpu")
    student = generator.student(PROMPTS, [1, 2])
    teacher = generator.teacher(PROMPTS, [1, 2], student)
    assert (type(generator._student).__name__, type(generator._teacher).__name__) == kinds
    assert generator._teacher.vae is generator._student.vae
    assert student.shape == teacher.shape == (2, 32, 32, 3)
    assert difference(generator.student(PROMPTS[1:], [2])[0], student[1]) <= 1
    assert difference(generator.teacher(PROMPTS[1:], [2], student[1:])[0], teacher[1]) <= 1
    assert difference(generator.teacher(PROMPTS[1:], [2], student[:1])[0], teacher[1]) > 1
    # The teacher is what diffusers makes of its parts.
    parts = {
        part: getattr(generator._teacher, part) for part in ("unet", "transformer") if hasattr(generator._teacher, part)
    }
    pipeline = AutoPipelineForImage2Image.from_pretrained(spec.student.model, **parts)
    pipeline.scheduler = type(generator._teacher.scheduler).from_pretrained(spec.teacher.model, subfolder="scheduler")
    length = {} if spec.teacher.max_sequence_length is None else {"max_sequence_length": 16}
    images = pipeline(
        PROMPTS[0], image=Image.fromarray(student[0]), num_inference_steps=4, strength=0.5, guidance_scale=3.0,
        generator=torch.Generator().manual_seed(1), output_type="np", **length,
    ).images  # fmt: skip
    assert np.abs((images * 255).round() - teacher[0]).max() <= 1


def test_offload_and_eight_bits_know_the_other_families(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    for write in (write_sdxl, write_sd35):
        spec = read_spec(write(tmp_path / write.__name__))
        plain = Generator(spec, "cpu").student(PROMPTS, [1, 2])
        for offload in ("model", "group"):
            assert difference(Generator(spec, "cpu", offload).student(PROMPTS, [1, 2]), plain) <= 1
        fewer = Generator(spec.model_copy(update={"quantised": "int8"}), "cpu").student(PROMPTS, [1, 2])
        assert 0 < np.abs(fewer.astype(int) - plain).mean() < 6


@pytest.mark.parametrize(
    ("write", "name", "kinds"),
    [
        (write_klein, "flux2-klein", ("Flux2KleinPipeline", "Flux2KleinPipeline")),
        (write_z_image, "z-image-turbo", ("ZImagePipeline", "ZImageImg2ImgPipeline")),
        (write_qwen_image, "qwen-image-lightning", ("QwenImagePipeline", "QwenImageImg2ImgPipeline")),
    ],
)
def test_todays_pairs_draw_as_the_shipped_specs_do(
    write: Callable[[Path], Path], name: str, kinds: tuple[str, str], tmp_path: Path
) -> None:
    spec, shipped = read_spec(write(tmp_path)), read_spec(name)
    for side, real in ((spec.student, shipped.student), (spec.teacher, shipped.teacher)):
        for key in ("rest", "lora", "scheduler", "max_sequence_length"):
            assert (getattr(side, key) is None) == (getattr(real, key) is None)
    generator = Generator(spec, "cpu")
    student = generator.student(PROMPTS, [1, 2])
    teacher = generator.teacher(PROMPTS, [1, 2], student)
    assert (type(generator._student).__name__, type(generator._teacher).__name__) == kinds
    assert generator._teacher.vae is generator._student.vae
    assert generator._teacher.text_encoder is generator._student.text_encoder
    assert generator._teacher.transformer is not generator._student.transformer
    assert student.shape == teacher.shape == (2, 32, 32, 3)
    assert difference(generator.student(PROMPTS[1:], [2])[0], student[1]) <= 1
    assert difference(generator.teacher(PROMPTS[1:], [2], student[1:])[0], teacher[1]) <= 1
    (latents,) = generator._latents.values()
    generator.student([PROMPTS[0]], [2])
    (others,) = generator._latents.values()
    assert (others - latents).abs().max() > 1e-3  # prompts are read
    if name == "qwen-image-lightning":
        assert generator._student.scheduler.config.shift_terminal is None
        assert generator._teacher.scheduler.config.shift_terminal == 0.02
        assert generator._student.get_active_adapters()
