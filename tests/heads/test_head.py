import json
from pathlib import Path

import pytest
import torch

from undistill.heads import EsaGenerator, Head, HeadError, ResnetGenerator, UNet
from undistill.heads.head import head_hash


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    ResnetGenerator(width=4, blocks=1, norm="pixel").save_pretrained(tmp_path / "head")
    return tmp_path / "head"


@pytest.mark.parametrize(
    "head", [ResnetGenerator(4, 1, residual=True), EsaGenerator(8, 1), UNet(4, depth=3)], ids=["resnet", "esa", "unet"]
)
def test_comes_back_as_it_was(head: Head, tmp_path: Path) -> None:
    head.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    twin = Head.from_pretrained(tmp_path)
    assert type(twin) is type(head)
    assert not twin.training
    assert twin.config == head.config
    for name, weight in head.state_dict().items():
        assert torch.equal(weight.half().float(), twin.state_dict()[name])


def test_descriptor(saved: Path) -> None:
    descriptor = Head.from_pretrained(saved).descriptor
    assert descriptor.architecture == "ResnetGenerator"
    assert (descriptor.smallest, descriptor.multiple, descriptor.receptive_field) == (16, 4, 53)
    assert descriptor.bf16
    assert not descriptor.whole_image
    assert ResnetGenerator(4, 1).descriptor.whole_image


def test_bf16_is_measured() -> None:
    class Fragile(ResnetGenerator):
        def body(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(64 * super().body(x))  # a gain that makes the last bits visible

    torch.manual_seed(3)  # 25 dB; with other weights up to 40
    assert not Fragile(width=4, blocks=1, norm="pixel").descriptor.bf16


def test_refuses_what_is_no_head(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(HeadError, match=r"no head 'flux2-lite'.*flux1-lite"):
        Head.from_pretrained("flux2-lite")
    with pytest.raises(HeadError, match="neither a folder"):
        Head.from_pretrained("somebody/something")  # offline
    (tmp_path / "empty").mkdir()
    with pytest.raises(HeadError, match=r"has no config\.json"):
        Head.from_pretrained(tmp_path / "empty")
    with pytest.raises(HeadError, match="is a ResnetGenerator, not a UNet"):
        UNet.from_pretrained(saved)


@pytest.mark.parametrize("change", [{"width": 5}, {"colour": "blue"}, {"architecture": "Transformer"}])
def test_refuses_a_config_that_does_not_fit(saved: Path, change: dict[str, object]) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(HeadError, match="not a head this version can read"):
        Head.from_pretrained(saved)


def test_refuses_broken_weights(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(HeadError, match="not a head this version can read"):
        Head.from_pretrained(saved)


def test_push_to_hub_uploads_the_four_files(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: list[str] = []

    class Api:
        def __init__(self, token: object = None) -> None: ...

        def create_repo(self, repo_id: str, **_: object) -> object:
            return type("Url", (), {"repo_id": repo_id})()

        def upload_folder(self, folder_path: Path, **_: object) -> str:
            uploaded.extend(sorted(path.name for path in Path(folder_path).iterdir()))
            return "commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    (saved / "metrics.json").write_text("{}")
    Head.from_pretrained(saved).push_to_hub("owner/name")
    assert uploaded == ["README.md", "config.json", "metrics.json", "model.safetensors"]


def test_hash_tells_heads_apart(saved: Path, tmp_path: Path) -> None:
    before = head_hash(saved)
    assert before == head_hash(saved)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "residual": True}))
    assert head_hash(saved) != before
    with pytest.raises(HeadError, match=r"has no config\.json"):
        head_hash(tmp_path)
