import sys
from pathlib import Path

import numpy as np
import pytest

import undistill
from tests.conftest import strong
from undistill.base.errors import UsageError
from undistill.heads import HeadError, UNet
from undistill.pairs.spec import make_spec, read_spec


def test_a_prompt_becomes_an_enhanced_image(miniature: Path) -> None:
    head = strong(UNet(width=4, depth=2))
    plain, enhancing = undistill.Pipeline(miniature, False, "cpu"), undistill.Pipeline(miniature, head, "cpu")
    student = plain("a portrait of ada okafor", seed=1)
    assert student.size == (32, 32)
    image = enhancing("a portrait of ada okafor", seed=1)
    assert enhancing.enhancer is not None
    assert np.array_equal(np.asarray(image), np.asarray(enhancing.enhancer(student)))
    assert not np.array_equal(np.asarray(image), np.asarray(student))
    both = enhancing(["a portrait of ada okafor", "a portrait of ben"], [1, 2])
    assert np.abs(np.asarray(both[0]).astype(int) - np.asarray(image)).max() <= 2  # rounded otherwise in a batch
    with pytest.raises(TypeError, match="a list of prompts a list of seeds"):
        enhancing(["a", "b"], 1)  # type: ignore[call-overload]


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
