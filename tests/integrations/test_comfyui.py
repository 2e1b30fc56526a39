"""The ComfyUI nodes against the documented interface; test_comfyui_server.py drives a real server."""

import ast
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import strong
from tests.integrations.comfy_stub import NODES, Comfy, Interrupted, load_nodes
from undistill.enhance import Enhancer
from undistill.heads import Head, UNet, shipped_heads


@pytest.fixture
def comfy(tmp_path: Path) -> Comfy:
    return Comfy(tmp_path / "models")


@pytest.fixture
def nodes(comfy: Comfy, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return load_nodes(comfy, monkeypatch)


@pytest.fixture
def mine(comfy: Comfy) -> Head:
    """A head in models/undistill/mine."""
    head = strong(UNet(width=4, depth=2))
    head.save_pretrained(comfy.models / "undistill" / "mine")
    return Head.from_pretrained(comfy.models / "undistill" / "mine")


def images(count: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, 40, 36, channels, generator=torch.Generator().manual_seed(0))


def loaded(nodes: dict[str, Any], name: str = "mine") -> Any:
    return nodes["UndistillLoadHead"].execute(name).args[0]


def test_what_the_nodes_say_of_themselves(nodes: dict[str, Any], mine: Head, comfy: Comfy) -> None:
    assert list(nodes) == [
        "UndistillLoadHead", "UndistillEnhancePortrait", "UndistillCompare", "UndistillStudentAndHead",
    ]  # fmt: skip
    for node in nodes.values():
        schema = node.define_schema()
        assert schema.category == "undistill"
        assert schema.display_name.endswith("(undistill)")
        assert schema.description
        ids = [slot.id for slot in schema.inputs]
        assert len(set(ids)) == len(ids)
    (head, hub_id) = nodes["UndistillLoadHead"].define_schema().inputs
    assert head.options["options"] == ["mine", *shipped_heads()]
    assert hub_id.options["optional"]


def test_a_batch_is_enhanced_as_enhancer_does(nodes: dict[str, Any], mine: Head, comfy: Comfy) -> None:
    batch = images()
    head = loaded(nodes)
    (made,) = nodes["UndistillEnhancePortrait"].execute(batch, head, 0.7).args
    expected = torch.stack([Enhancer(mine, "cpu")(one.movedim(-1, 0), 0.7).movedim(0, -1) for one in batch])
    assert torch.equal(made, expected)
    assert torch.equal(batch, images())  # what came in is as it was
    assert comfy.bars == [(1, 2), (2, 2)]
    (models, options), = comfy.loaded  # fmt: skip
    assert models == [head]
    assert options["memory_required"] > 0


def test_alpha_stays(nodes: dict[str, Any], mine: Head) -> None:
    batch = images(channels=4)
    (made,) = nodes["UndistillEnhancePortrait"].execute(batch, loaded(nodes)).args
    assert torch.equal(made[..., 3], batch[..., 3])
    (without,) = nodes["UndistillEnhancePortrait"].execute(batch[..., :3], loaded(nodes)).args
    assert torch.equal(made[..., :3], without)


def test_a_mask_says_where(nodes: dict[str, Any], mine: Head) -> None:
    batch, head = images(), loaded(nodes)
    node = nodes["UndistillEnhancePortrait"]
    (whole,) = node.execute(batch, head).args
    mask = torch.zeros(1, 40, 36)
    mask[:, :20] = 1
    (part,) = node.execute(batch, head, mask=mask).args
    assert torch.equal(part[:, 20:], batch[:, 20:])
    assert torch.allclose(part[:, :20], whole[:, :20], atol=1e-6)
    (other,) = node.execute(batch, head, mask=torch.ones(2, 10, 9)).args  # of another size
    assert torch.allclose(other, whole, atol=1e-6)
    with pytest.raises(ValueError, match="3 masks for 2 images"):
        node.execute(batch, head, mask=torch.ones(3, 40, 36))


def test_values_beyond_the_range_do_no_harm(nodes: dict[str, Any], mine: Head) -> None:
    (made,) = nodes["UndistillEnhancePortrait"].execute(images() * 1.2 - 0.1, loaded(nodes)).args
    assert (made.min() >= 0, made.max() <= 1) == (True, True)


def test_cancel_is_heard_between_two_images(nodes: dict[str, Any], mine: Head, comfy: Comfy) -> None:
    head = loaded(nodes)
    comfy.cancelled = True
    with pytest.raises(Interrupted):
        nodes["UndistillEnhancePortrait"].execute(images(), head)
    assert comfy.bars == []


def test_compare(nodes: dict[str, Any]) -> None:
    before = images(channels=4)
    answer = nodes["UndistillCompare"].execute(before, before[..., :3] / 2, line=6)
    (made,) = answer.args
    assert made.shape == (2, 40, 36 + 6 + 36, 3)
    assert torch.equal(made[:, :, :36], before[..., :3])
    assert made[:, :, 36:42].min() == 1
    assert answer.ui == ("preview", made.shape)
    with pytest.raises(ValueError, match="before is 2 of 36 x 40 px, after 1 of 36 x 40 px"):
        nodes["UndistillCompare"].execute(before, before[:1])


def test_student_and_head(nodes: dict[str, Any], mine: Head, comfy: Comfy) -> None:
    node = nodes["UndistillStudentAndHead"]
    pairs, heads = node.define_schema().inputs[:2]
    assert "flux1" in pairs.options["options"]
    image, student = node.execute("tiny", "mine", "A professional portrait of Ada Okafor", 1).args
    assert image.shape == student.shape == (1, 64, 64, 3)
    assert torch.equal(image[0], Enhancer(mine, "cpu")(student[0].movedim(-1, 0)).movedim(0, -1))
    kept = node._loaded
    _, again = node.execute("tiny", heads.options["options"][1], "A professional portrait of Ada Okafor", 1).args
    assert torch.equal(again, student)
    assert node._loaded is kept  # not loaded twice
    networks = comfy.loaded[0][0][0].model.networks
    assert {type(part).__name__ for part in networks} >= {"FluxTransformer2DModel", "AutoencoderKL", "T5EncoderModel"}


def test_nothing_is_run_or_installed_and_nothing_else_imported() -> None:
    for path in NODES.glob("*.py"):
        for part in ast.walk(ast.parse(path.read_text())):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
                assert part.func.id not in ("eval", "exec", "compile", "__import__")
            names = []
            if isinstance(part, ast.Import):
                names = [alias.name for alias in part.names]
            elif isinstance(part, ast.ImportFrom) and not part.level:
                names = [part.module or ""]
            for name in names:
                allowed = {
                    "comfy",
                    "comfy_api",
                    "folder_paths",
                    "torch",
                    "undistill",
                    "collections",
                    "pathlib",
                    "typing",
                }
                assert name.split(".")[0] in allowed, f"{path.name} imports {name}"


def test_what_the_registry_wants() -> None:
    project = tomllib.loads((NODES / "pyproject.toml").read_text())
    assert project["project"]["name"] == "undistill"
    assert project["project"]["dependencies"] == ["undistill>=0.1"]
    assert set(project["tool"]["comfy"]) >= {"PublisherId", "DisplayName", "Icon"}
    assert Image.open(NODES / project["tool"]["comfy"]["Icon"]).size == (400, 400)
    for name in ("README.md", "LICENSE"):
        assert (NODES / name).stat().st_size > 500


@pytest.mark.parametrize("path", sorted((NODES / "example_workflows").iterdir()), ids=lambda path: path.name)
def test_the_workflows_are_of_these_nodes(path: Path, nodes: dict[str, Any]) -> None:
    if path.suffix == ".png":
        picture = Image.open(path)
        assert picture.size == (512, 512)
        workflow = json.loads(picture.info["workflow"])
        prompt = json.loads(picture.info["prompt"])
        assert {node["class_type"] for node in prompt.values()} == {node["type"] for node in workflow["nodes"]}
    else:
        workflow = json.loads(path.read_text())
    by_id = {node["id"]: node for node in workflow["nodes"]}
    for number, source, out, target, into, kind in workflow["links"]:
        assert by_id[source]["outputs"][out]["type"] == by_id[target]["inputs"][into]["type"] == kind
        assert number in by_id[source]["outputs"][out]["links"]
        assert by_id[target]["inputs"][into]["link"] == number
    ours = [node for node in workflow["nodes"] if node["type"].startswith("Undistill")]
    assert ours
    for node in ours:
        schema = nodes[node["type"]].define_schema()
        linked = {slot["name"] for slot in node["inputs"]}
        assert linked <= {slot.id for slot in schema.inputs}
        widgets = [slot for slot in schema.inputs if slot.kind in ("COMBO", "FLOAT", "INT", "STRING")]
        extra = sum(bool(slot.options.get("control_after_generate")) for slot in widgets)
        assert len(node["widgets_values"]) == len(widgets) + extra
