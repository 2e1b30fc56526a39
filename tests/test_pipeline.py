import sys
from pathlib import Path

import numpy as np
import pytest
from diffusers import FluxPipeline, FluxTransformer2DModel

import undistill
from tests.conftest import strong
from undistill.base.errors import UsageError
from undistill.heads import HeadError, UNet
from undistill.pairs.spec import make_spec, read_spec


def test_a_prompt_becomes_an_enhanced_image(miniature: Path) -> None:
    head = strong(UNet(width=4, depth=2))
    plain, enhancing = undistill.Pipeline(miniature, False, "cpu"), undistill.Pipeline(miniature, head, "cpu")
    (student,) = plain("a portrait of ada okafor", seed=1).images
    assert student.size == (32, 32)
    drawn = enhancing("a portrait of ada okafor", seed=1)
    image = drawn.images[0]
    assert np.array_equal(np.asarray(drawn.student[0]), np.asarray(student))
    assert enhancing.enhancer is not None
    assert np.array_equal(np.asarray(image), np.asarray(enhancing.enhancer(student)))
    assert not np.array_equal(np.asarray(image), np.asarray(student))
    both = enhancing(["a portrait of ada okafor", "a portrait of ben"], [1, 2]).images
    assert np.abs(np.asarray(both[0]).astype(int) - np.asarray(image)).max() <= 2  # rounded otherwise in a batch
    with pytest.raises(TypeError, match="a list of prompts a list of seeds"):
        enhancing(["a", "b"], 1)


def test_a_loaded_pipeline_is_the_student(miniature: Path) -> None:
    head = strong(UNet(width=4, depth=2))
    schnell = FluxTransformer2DModel.from_pretrained(miniature.parent / "schnell" / "transformer")
    loaded = FluxPipeline.from_pretrained(miniature.parent / "dev", transformer=schnell)
    loaded.scheduler = type(loaded.scheduler).from_pretrained(miniature.parent / "schnell" / "scheduler")
    loaded.set_progress_bar_config(disable=True)
    pipeline = undistill.Pipeline(miniature, head, student=loaded)
    assert pipeline.generator._student is loaded
    drawn = pipeline("a portrait of ada okafor", seed=1)
    own = undistill.Pipeline(miniature, head, "cpu")
    assert np.array_equal(np.asarray(drawn.images[0]), np.asarray(own("a portrait of ada okafor", seed=1).images[0]))
    assert "encode_prompt" not in vars(loaded)
    # The teacher shares nothing with what may be anybody's.
    assert pipeline.generator._teacher.vae is not loaded.vae
    with pytest.raises(UsageError, match="a loaded student needs its pair"):
        undistill.Pipeline(head=head, student=loaded)


def test_the_pairs_own_head_is_taken_unless_told_otherwise(miniature: Path, tmp_path: Path) -> None:
    spec = read_spec(miniature)
    assert undistill.Pipeline(spec, device="cpu").enhancer is None
    strong(UNet(width=4, depth=2)).save_pretrained(tmp_path)
    spec = make_spec({**spec.model_dump(), "head": str(tmp_path)})
    pipeline = undistill.Pipeline(spec, device="cpu")
    assert pipeline.enhancer is not None
    assert pipeline.enhancer.head.folder == tmp_path
    assert undistill.Pipeline(spec, False, "cpu").enhancer is None


def test_refuses_in_words() -> None:
    with pytest.raises(UsageError, match="no pair 'flux2'"):
        undistill.Pipeline("flux2")
    with pytest.raises(HeadError, match="no head 'flux1-heavy'"):
        undistill.Pipeline("flux1", "flux1-heavy")
    with pytest.raises(AttributeError, match="no attribute 'Pipelime'"):
        undistill.Pipelime  # noqa: B018
    assert "undistill.pipeline" in sys.modules
