"""FLUX.2 klein's pipeline takes no strength: the teacher begins with the student's latents."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, Flux2KleinPipeline
from torch import Tensor

from tests.miniature_flow import write_klein
from tests.pairs.test_generator import PROMPTS, changed, difference
from undistill.base.errors import Failure
from undistill.pairs.generator import Generator
from undistill.pairs.spec import PairSpec, read_spec


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_klein(tmp_path_factory.mktemp("klein"))


def seen(generator: Generator, side: str) -> list[Tensor]:
    """What a side's transformer is shown, pass by pass."""
    shown: list[Tensor] = []
    transformer = getattr(generator, side).transformer
    transformer.register_forward_pre_hook(lambda *call: shown.append(call[2]["hidden_states"]), with_kwargs=True)
    return shown


def test_the_scheduler_noises_the_students_latents(klein: Path) -> None:
    generator = Generator(changed(klein, teacher={"steps": 10, "strength": 0.7}), "cpu")
    student = generator.student(PROMPTS, [1, 2])
    (latents,) = generator._latents.values()
    shown = seen(generator, "_teacher")
    generator.teacher(PROMPTS, [1, 2], student)
    assert len(shown) == 2 * (7 + 1)  # guidance: each step sees both prompts
    scheduler = generator._teacher.scheduler
    assert len(scheduler.timesteps) == 8
    noise = []
    for seed in (1, 2):
        random = torch.Generator().manual_seed(seed)
        torch.randn(128, 2, 2, generator=random)  # what the pipeline began with
        noise.append(torch.randn(4, 128, generator=random))
    sigma = scheduler.sigmas[1]
    torch.testing.assert_close(shown[2], sigma * torch.stack(noise) + (1 - sigma) * latents)
    # The schedule is that of all ten steps.
    plain = Flux2KleinPipeline.from_pretrained(klein.parent / "base")
    plain.set_progress_bar_config(disable=True)
    plain(prompt=PROMPTS[0], height=32, width=32, num_inference_steps=10, max_sequence_length=32, output_type="latent")
    torch.testing.assert_close(scheduler.sigmas, plain.scheduler.sigmas[2:])


def test_a_faint_teacher_is_near_the_student(klein: Path) -> None:
    def distance(strength: float) -> float:
        generator = Generator(changed(klein, teacher={"steps": 50, "strength": strength, "guidance": 1.0}), "cpu")
        student = generator.student(PROMPTS, [1, 2])
        return float(np.abs(generator.teacher(PROMPTS, [1, 2], student) - student.astype(int)).mean())

    assert 3 * distance(0.02) < distance(0.7)


def test_latents_of_another_batch_are_drawn_again(klein: Path) -> None:
    generator = Generator(klein, "cpu")
    student = generator.student(PROMPTS, [1, 2])
    passes = seen(generator, "_student")
    teacher = generator.teacher(PROMPTS, [1, 2], student)
    assert not passes
    alone = generator.teacher(PROMPTS[1:], [2], student[1:])
    assert len(passes) == generator.spec.student.steps
    assert difference(alone[0], teacher[1]) <= 1


def test_a_teacher_of_text_alone(klein: Path) -> None:
    spec: PairSpec = changed(klein, teacher={"start": "text", "strength": 1})
    generator = Generator(spec, "cpu")
    student = generator.student(PROMPTS[:1], [1])
    teacher = generator.teacher(PROMPTS[:1], [1], student)
    pipeline = Flux2KleinPipeline.from_pretrained(klein.parent / "base")
    pipeline.set_progress_bar_config(disable=True)
    asked: dict[str, Any] = {"height": 32, "width": 32, "max_sequence_length": 32, "output_type": "np"}
    images = pipeline(
        prompt=PROMPTS[0],
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(1),
        **asked,
    ).images
    assert np.array_equal(teacher, (images * 255).round())
    whole = Generator(changed(klein, teacher={"strength": 1}), "cpu")  # at full strength nothing of the student is left
    assert np.array_equal(whole.teacher(PROMPTS[:1], [1], student), teacher)


def test_refuses_a_scheduler_that_cant_noise(klein: Path) -> None:
    generator = Generator(read_spec(klein), "cpu")
    student = generator.student(PROMPTS[:1], [1])
    generator._teacher.scheduler = DDIMScheduler()
    with pytest.raises(Failure, match=r"takes no strength, and DDIMScheduler can't noise .*: say `start: text`"):
        generator.teacher(PROMPTS[:1], [1], student)
