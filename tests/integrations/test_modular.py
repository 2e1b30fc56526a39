"""`EnhanceStep` in diffusers' own auto blocks, on small random pipelines of the real classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, ModularPipelineBlocks
from diffusers import modular_pipelines as modular
from PIL import Image

from tests.conftest import strong
from tests.miniature import write_pair, write_sdxl
from tests.miniature_flow import write_klein, write_qwen_image, write_z_image
from undistill.enhance import Enhancer
from undistill.heads import Head, UNet
from undistill.integrations.modular import EnhanceStep, with_head

ROOT = Path(__file__).parents[2]
FAMILIES: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "flux": (write_pair, "dev", "FluxAutoBlocks"),
    "flux2": (write_klein, "klein", "Flux2KleinAutoBlocks"),
    "z-image": (write_z_image, "turbo", "ZImageAutoBlocks"),
    "sdxl": (write_sdxl, "turbo", "StableDiffusionXLAutoBlocks"),
    "qwen": (write_qwen_image, "qwen", "QwenImageAutoBlocks"),
}


@pytest.fixture(scope="module")
def head() -> Head:
    return strong(UNet(width=4, depth=2))


def pipeline_of(blocks: Any, classic: Any, **parts: Any) -> Any:
    made = blocks.init_pipeline()
    own = {name: part for name, part in classic.components.items() if name in made._component_specs}
    made.update_components(**own, **parts)
    made.set_progress_bar_config(disable=True)
    return made


def draw(pipeline: Any, **asked: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    size = {"height": 32, "width": 32}
    if "max_sequence_length" in pipeline.blocks.input_names and "Qwen" not in type(pipeline).__name__:
        size["max_sequence_length"] = 16
    return pipeline(prompt="a portrait", num_inference_steps=2, generator=generator, output="images", **size, **asked)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_students_image_stays_and_the_enhanced_one_is_the_enhancers(
    family: str, head: Head, tmp_path: Path
) -> None:
    write, folder, kind = FAMILIES[family]
    if not hasattr(modular, kind):
        pytest.skip(f"the installed diffusers has no {kind}")
    write(tmp_path)
    classic = DiffusionPipeline.from_pretrained(tmp_path / folder)
    plain = pipeline_of(getattr(modular, kind)(), classic)
    blocks = with_head(getattr(modular, kind)())
    assert list(blocks.sub_blocks)[-2:] == ["decode", "enhance"]
    enhancing = pipeline_of(blocks, classic, head=head)
    student = draw(plain, output_type="np")
    assert np.array_equal(draw(enhancing, output_type="np", enhance_strength=0.0), student)
    enhanced = draw(enhancing, output_type="np")
    assert np.array_equal(enhanced, Enhancer(head, "cpu")(student))
    assert not np.array_equal(enhanced, student)


@pytest.fixture(scope="module")
def flux(miniature: Path) -> Any:
    return DiffusionPipeline.from_pretrained(miniature.parent / "dev")


def test_every_kind_of_output(flux: Any, head: Head) -> None:
    pipeline = pipeline_of(with_head(modular.FluxAutoBlocks()), flux, head=head)
    tensor = draw(pipeline, output_type="pt")
    assert isinstance(tensor, torch.Tensor)
    (image,) = draw(pipeline, output_type="pil")
    assert isinstance(image, Image.Image)
    assert np.abs(np.asarray(image) / 255 - tensor[0].movedim(0, -1).numpy()).max() < 0.02  # 8 bits on the way


def test_the_head_is_loaded_with_the_others_and_keeps_its_precision(flux: Any, tmp_path: Path) -> None:
    strong(UNet(width=4, depth=2)).save_pretrained(tmp_path / "mine")
    pipeline = pipeline_of(with_head(modular.FluxAutoBlocks(), str(tmp_path / "mine")), flux)
    with pytest.raises(ValueError, match="there is no head"):
        draw(pipeline)
    pipeline.load_components(dtype=torch.bfloat16)
    assert isinstance(pipeline.head, Head)
    assert pipeline.head.dtype == torch.float32
    first = draw(pipeline, output_type="np")
    pipeline.head.to(torch.bfloat16)  # as pipeline.to(torch.bfloat16) does with every component
    assert np.abs(draw(pipeline, output_type="np") - first).max() < 0.05
    pipeline.to("cpu")
    assert pipeline.head.device.type == "cpu"


def test_a_head_in_a_subfolder_as_pipelines_are_stored(tmp_path: Path) -> None:
    head = strong(UNet(width=4, depth=2))
    head.save_pretrained(tmp_path / "head")
    spec = EnhanceStep(str(tmp_path)).expected_components[0]
    loaded = spec.load(subfolder="head")
    assert isinstance(loaded, Head)
    assert loaded.config == head.config


def test_the_published_form() -> None:
    block = ModularPipelineBlocks.from_pretrained(
        ROOT / "integrations" / "diffusers", trust_remote_code=True, head="flux1"
    )
    assert isinstance(block, EnhanceStep)
    assert block.expected_components[0].pretrained_model_name_or_path == "flux1"


def test_refuses_blocks_without_decode() -> None:
    with pytest.raises(ValueError, match="EnhanceStep has no block decode: its blocks are none"):
        with_head(EnhanceStep())
