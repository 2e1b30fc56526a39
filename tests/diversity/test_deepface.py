"""deepface's own code, on small networks where it looks for its weights."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from skimage.data import astronaut

from undistill.base.errors import Failure
from undistill.diversity.attributes import AGE, ETHNICITY, GENDER, load_attributes
from undistill.diversity.deepface import ETHNICITIES
from undistill.diversity.embedding import load_embedding
from undistill.images import Pixels

RED, GREEN, BLUE = 2, 1, 0  # deepface gives its networks BGR


def network(path: Path, weight: NDArray[np.float32], softmax: bool = True) -> None:
    """Mean colour of (n, side, side, 3) in [0, 1], times a matrix (3, K)."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["scores"]),
        helper.make_node("Softmax" if softmax else "Identity", ["scores"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean colour",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", None, None, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def tells(size: int, classes: dict[int, int]) -> NDArray[np.float32]:
    """A matrix that makes the channel which is strongest decide on the class."""
    weight = np.zeros((3, size), np.float32)
    for channel, place in classes.items():
        weight[channel, place] = 1000
    return weight


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder where deepface looks for weights; no network outside."""
    from deepface.modules import modeling

    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    monkeypatch.setattr(modeling, "cached_models", {task: {} for task in modeling.AVAILABLE_MODELS}, raising=False)

    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr("requests.sessions.Session.request", offline)
    folder = tmp_path / ".deepface" / "weights"
    folder.mkdir(parents=True)
    return folder


def tinted(channel: int) -> Pixels:
    """A face of which one channel (R, G, B) is left."""
    face = astronaut()[:300, 80:380].copy()  # type: ignore[no-untyped-call]
    grey = np.asarray(Image.fromarray(face).convert("L"))
    other = [place for place in range(3) if place != channel]
    face[..., channel], face[..., other] = grey, grey[..., None] // 2
    return np.asarray(face)


def test_attributes_by_deepface(weights: Path) -> None:
    network(weights / "gender_model_weights.onnx", tells(2, {RED: 0, BLUE: 1, GREEN: 1}))
    network(weights / "age_model_weights.onnx", tells(101, {RED: 25, GREEN: 40, BLUE: 70}))
    network(weights / "race_model_single_batch.onnx", tells(6, {RED: 1, GREEN: 3, BLUE: 5}))
    extractor = load_attributes("deepface")
    red, green, blue = (extractor(tinted(channel))[0] for channel in range(3))
    assert [seen[GENDER] for seen in (red, green, blue)] == [0, 1, 1]
    assert [seen[AGE] for seen in (red, green, blue)] == pytest.approx([25, 40, 70], abs=1)
    assert [ETHNICITIES[int(seen[ETHNICITY])] for seen in (red, green, blue)] == ["indian", "white", "latino hispanic"]
    assert extractor(np.zeros((80, 90, 3), np.uint8)).shape == (0, 3)


def test_the_ethnicities_are_deepfaces() -> None:
    from deepface.models.demography.DemographyUtils import GENDER_LABELS, RACE_LABELS

    assert sorted(RACE_LABELS) == sorted(ETHNICITIES)
    assert "Man" in GENDER_LABELS


def test_arcface(weights: Path) -> None:
    random = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    network(weights / "arcface_weights.onnx", random, softmax=False)
    extractor = load_embedding("arcface")
    red, blue = extractor(tinted(0)), extractor(tinted(2))
    assert red.shape == (1, 512)
    assert np.linalg.norm(red) == pytest.approx(1)
    assert float((red @ blue.T)[0, 0]) < 0.99
    assert extractor(np.zeros((80, 90, 3), np.uint8)).shape == (0, 512)


def test_without_weights_and_network_it_says_where_to_put_them(
    weights: Path,
) -> None:
    with pytest.raises(Failure, match=r"deepface can't run: .*gender_model_weights\.onnx.* manually to") as error:
        load_attributes("deepface")
    assert "\n" not in str(error.value)
