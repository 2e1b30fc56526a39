from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from tests.miniature import clip_tokenizer
from undistill.base.errors import Failure
from undistill.images import Pixels
from undistill.metrics import no_reference
from undistill.metrics.no_reference import load_blur_effect, load_clip_iqa

CPU = torch.device("cpu")


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CLIP of the smallest size, untrained, where CLIP is looked for."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {**small, "image_size": 32, "patch_size": 8}
    folder = tmp_path / "clip"
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    with torch.no_grad():
        model.text_model.final_layer_norm.bias.fill_(20)  # prompts alike, so that the score is neither 0 nor 1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    monkeypatch.setattr(no_reference, "CLIP", str(folder))
    return folder


def noise(seed: int, side: int = 48) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_clip_iqa_is_the_softmax_over_two_prompts(clip: Path) -> None:
    model, tokenizer = CLIPModel.from_pretrained(clip), clip_tokenizer()
    image = Image.fromarray(noise(1))
    inputs = CLIPImageProcessor.from_pretrained(clip)(images=image, return_tensors="pt")
    words = tokenizer(["Good photo.", "Bad photo."], return_tensors="pt", padding=True)
    with torch.inference_mode():
        out = model(**inputs, **words)
    expected = (100 * out.image_embeds @ out.text_embeds.T).softmax(-1)[0, 0]
    look = load_clip_iqa(CPU)
    assert 0.01 < float(expected) < 0.99
    assert look(np.asarray(image))[0, 0] == pytest.approx(float(expected), abs=1e-4)
    assert look(noise(2))[0, 0] != pytest.approx(float(expected), abs=1e-3)


def test_clip_that_is_not_there_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(no_reference, "CLIP", "undistill/no-such-clip")
    with pytest.raises(Failure, match=r"hf download undistill/no-such-clip"):
        load_clip_iqa(CPU)


def test_the_effect_of_blur_grows_with_blur() -> None:
    blurred = [Image.fromarray(noise(3)).filter(ImageFilter.GaussianBlur(radius)) for radius in range(4)]
    measure = load_blur_effect(CPU)
    seen = [float(measure(np.asarray(image))[0, 0]) for image in blurred]
    assert seen == sorted(seen)
    assert seen[0] < 0.3 < seen[3]
