from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from safetensors.torch import save_file

from undistill.base.errors import Failure, UsageError
from undistill.images import Pixels, to_tensor
from undistill.pairs.generator import Generator
from undistill.pairs.load import add_lora, lora_encoders
from undistill.pairs.spec import PairSpec, make_spec, read_spec

PROMPTS = ["a portrait of ada okafor", "a portrait of ben"]


@pytest.fixture(scope="module")
def generator(miniature: Path) -> Generator:
    return Generator(miniature, "cpu")


def changed(path: Path, student: dict[str, Any] | None = None, teacher: dict[str, Any] | None = None) -> PairSpec:
    spec = read_spec(path).model_dump()
    return make_spec(
        {**spec, "student": {**spec["student"], **(student or {})}, "teacher": {**spec["teacher"], **(teacher or {})}}
    )


def difference(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(int) - b).max())


def test_an_image_depends_on_prompt_and_seed_alone(generator: Generator) -> None:
    both = generator.student(PROMPTS, [1, 2])
    assert both.shape == (2, 32, 32, 3)
    assert both.dtype == np.uint8
    # Sums are rounded differently in batches of other sizes.
    assert difference(generator.student(PROMPTS[1:], [2])[0], both[1]) <= 1
    assert difference(generator.student(PROMPTS[::-1], [2, 1])[::-1], both) <= 1
    assert difference(generator.student(PROMPTS, [1, 3])[1], both[1]) > 1
    assert difference(generator.student(PROMPTS[:1], [2])[0], both[1]) > 1
    teacher = generator.teacher(PROMPTS, [1, 2], both)
    assert difference(generator.teacher(PROMPTS[1:], [2], both[1:])[0], teacher[1]) <= 1
    assert difference(generator.teacher(PROMPTS[1:], [3], both[1:])[0], teacher[1]) > 1
    assert difference(generator.teacher(PROMPTS[1:], [2], both[:1])[0], teacher[1]) > 1


def test_the_student_is_what_diffusers_makes_of_its_parts(generator: Generator, miniature: Path) -> None:
    folder = miniature.parent
    schnell = FluxTransformer2DModel.from_pretrained(folder / "schnell" / "transformer")
    pipeline = FluxPipeline.from_pretrained(folder / "dev", transformer=schnell)
    pipeline.scheduler = type(pipeline.scheduler).from_pretrained(folder / "schnell" / "scheduler")
    images = pipeline(
        PROMPTS[0], height=32, width=32, num_inference_steps=2, guidance_scale=0, max_sequence_length=16,
        generator=torch.Generator().manual_seed(1), output_type="np",
    ).images  # fmt: skip
    assert np.array_equal(generator.student(PROMPTS[:1], [1]), (images * 255).round())


def test_the_teacher_is_what_diffusers_makes_of_its_folder(generator: Generator, miniature: Path) -> None:
    student = generator.student(PROMPTS[:1], [1])
    FluxPipeline.from_pretrained(miniature.parent / "dev")
    images = FluxImg2ImgPipeline.from_pretrained(miniature.parent / "dev")(
        PROMPTS[0], image=Image.fromarray(student[0]), height=32, width=32, num_inference_steps=4, strength=0.5,
        guidance_scale=3.0, max_sequence_length=16, generator=torch.Generator().manual_seed(1), output_type="np",
    ).images  # fmt: skip
    assert np.array_equal(generator.teacher(PROMPTS[:1], [1], student), (images * 255).round())


def test_the_teacher_begins_with_the_students_image(miniature: Path) -> None:
    faint = Generator(changed(miniature, teacher={"steps": 50, "strength": 0.02}), "cpu")
    student = faint.student(PROMPTS, [1, 2])
    with torch.no_grad():
        vae = faint._teacher.vae
        # An untrained autoencoder is unsure of its latents: draw what the pipeline draws.
        coded = [
            vae.encode(to_tensor(student[i : i + 1])).latent_dist.sample(torch.Generator().manual_seed(i + 1))
            for i in range(2)
        ]
        decoded = vae.decode(torch.cat(coded)).sample
    reconstruction = ((decoded.clamp(-1, 1) + 1) * 127.5).numpy().transpose(0, 2, 3, 1)
    strong = Generator(changed(miniature, teacher={"steps": 50, "strength": 0.7}), "cpu")

    def distance(generator: Generator) -> float:
        return float(np.abs(generator.teacher(PROMPTS, [1, 2], student) - reconstruction).mean())

    assert distance(faint) < 5
    assert distance(strong) > 2 * distance(faint)


def test_the_papers_steps(miniature: Path) -> None:
    generator = Generator(changed(miniature, teacher={"steps": 50, "strength": 0.7}), "cpu")
    steps: list[int] = []
    student = generator.student(PROMPTS[:1], [1])
    generator._teacher.transformer.register_forward_hook(lambda *_: steps.append(1))
    generator.teacher(PROMPTS[:1], [1], student)
    assert len(steps) == 35


def test_sides_share_what_comes_from_the_same_place(miniature: Path) -> None:
    generator = Generator(miniature, "cpu")
    assert "_teacher" not in vars(generator)  # not before it is asked
    student, teacher = generator._student, generator._teacher
    for name in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        assert getattr(student, name) is getattr(teacher, name)
    assert student.transformer is not teacher.transformer
    assert teacher.transformer.config.guidance_embeds
    assert not student.transformer.config.guidance_embeds
    assert student.scheduler is not teacher.scheduler
    one = Generator(changed(miniature, student={"model": str(miniature.parent / "dev")}), "cpu")
    assert one._student.transformer is one._teacher.transformer


@pytest.mark.parametrize(("length", "times"), [(16, 1), (24, 2)])
def test_prompts_are_encoded_once_where_both_sides_read_them_alike(miniature: Path, length: int, times: int) -> None:
    generator = Generator(changed(miniature, teacher={"max_sequence_length": length}), "cpu")
    calls: list[str] = []
    for name in ("text_encoder", "text_encoder_2"):
        encoder = getattr(generator._student, name)
        linear = next(part for part in encoder.modules() if isinstance(part, torch.nn.Linear))
        linear.register_forward_hook(lambda *_, name=name: calls.append(name))
    student = generator.student(PROMPTS, [1, 2])
    generator.teacher(PROMPTS, [1, 2], student)
    assert (calls.count("text_encoder"), calls.count("text_encoder_2")) == (times, times)
    generator.student(PROMPTS[:1], [1])
    assert calls.count("text_encoder") == times + 1  # another batch


def test_the_teachers_weights_are_needed_by_the_teacher_alone(miniature: Path) -> None:
    generator = Generator(changed(miniature, teacher={"model": "tiny-gone"}), "cpu")
    student = generator.student(PROMPTS[:1], [1])
    with pytest.raises(UsageError, match="no weights 'tiny-gone'"):
        generator.teacher(PROMPTS[:1], [1], student)


def test_refuses_what_does_not_fit(generator: Generator) -> None:
    with pytest.raises(ValueError, match="2 prompts, but 1 seeds"):
        generator.student(PROMPTS, [1])
    with pytest.raises(ValueError, match="images of shape"):
        generator.teacher(PROMPTS, [1, 2], np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(UsageError, match="device abacus"):
        Generator(generator.spec, "abacus")


def test_too_little_memory_and_range_are_one_line(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(miniature, "cpu")

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    with monkeypatch.context() as patch:
        patch.setattr(generator._student.transformer, "forward", full)
        with pytest.raises(Failure, match="cpu has too little memory for a batch of 2: take a smaller one"):
            generator.student(PROMPTS, [1, 2])
    torch.nn.init.constant_(generator._student.vae.decoder.conv_out.bias, torch.nan)
    with pytest.raises(Failure, match="leaves the range of float32"):
        generator.student(PROMPTS, [1, 2])


def test_a_lora_changes_one_side(miniature: Path, tmp_path: Path) -> None:
    block = "transformer.transformer_blocks.0.attn.to_q"
    weights = {f"{block}.lora_A.weight": torch.ones(2, 32), f"{block}.lora_B.weight": torch.ones(32, 2)}
    save_file(weights, tmp_path / "pytorch_lora_weights.safetensors")
    spec = changed(miniature, student={"lora": str(tmp_path)})
    plain, tuned = Generator(miniature, "cpu"), Generator(spec, "cpu")
    student = plain.student(PROMPTS, [1, 2])
    assert difference(tuned.student(PROMPTS, [1, 2]), student) > 1
    assert np.array_equal(tuned.teacher(PROMPTS, [1, 2], student), plain.teacher(PROMPTS, [1, 2], student))


def test_refuses_a_lora_in_one_line(generator: Generator, tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"

    def refuses(name: str | Path, words: str) -> None:
        with pytest.raises((Failure, UsageError)) as error:
            add_lora(generator._student, str(name))
        assert words in str(error.value)
        assert "\n" not in str(error.value)

    file.write_bytes(b"no tensors")
    refuses(file, "lora.safetensors can't be loaded: ")
    refuses(tmp_path, "has no pytorch_lora_weights.safetensors")
    refuses("gone", "no weights 'gone'")


def kohya(layer: str, rank: int, inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        f"{layer}.lora_down.weight": torch.randn(rank, inputs),
        f"{layer}.lora_up.weight": torch.randn(outputs, rank),
        f"{layer}.alpha": torch.tensor(float(rank)),
    }


def test_a_lora_of_kohyas_layout_changes_the_students_clip_alone(miniature: Path, tmp_path: Path) -> None:
    """That of `flux1-realism`: fused layers of the transformer, and CLIP."""
    file = tmp_path / "schnell-realism_v2.3.safetensors"
    transformer = kohya("lora_unet_double_blocks_0_img_attn_qkv", 2, 32, 96)
    clip = kohya("lora_te1_text_model_encoder_layers_0_mlp_fc1", 2, 16, 32)
    save_file({**transformer, **clip}, file)
    assert lora_encoders(str(file)) == {"text_encoder"}
    plain = Generator(miniature, "cpu")
    tuned = Generator(changed(miniature, student={"lora": str(file)}), "cpu")
    student = plain.student(PROMPTS, [1, 2])
    assert difference(tuned.student(PROMPTS, [1, 2]), student) > 1
    assert np.array_equal(tuned.teacher(PROMPTS, [1, 2], student), plain.teacher(PROMPTS, [1, 2], student))
    first, second = tuned._student, tuned._teacher
    assert first.text_encoder is not second.text_encoder
    assert first.text_encoder_2 is second.text_encoder_2
    words = torch.tensor([[0, 5, 6, 1]])
    with torch.no_grad():
        of = [p.text_encoder(words).pooler_output for p in (first, second, plain._student)]
    assert torch.equal(of[1], of[2])
    assert not torch.allclose(of[0], of[2], atol=1e-4)


def test_which_text_encoders_a_lora_changes(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    for key, encoders in {
        "transformer.proj_out.lora_A.weight": set(),
        "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": set(),
        "text_encoder.encoder.layers.0.mlp.fc1.lora_A.weight": {"text_encoder"},
        "text_encoder_2.encoder.layers.0.mlp.fc1.lora_A.weight": {"text_encoder_2"},
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": {"text_encoder"},
        "lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": {"text_encoder_2"},
    }.items():
        save_file({key: torch.ones(1)}, file)
        assert lora_encoders(str(file)) == encoders
    file.write_bytes(b"no tensors")
    with pytest.raises(Failure, match=r"lora\.safetensors can't be loaded: "):
        lora_encoders(str(file))
