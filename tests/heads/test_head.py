import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from undistill.base.files import WEIGHTS
from undistill.heads import EsaGenerator, Head, HeadError, ResnetGenerator, UNet, shipped_heads
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 5}, r"layers\.1\.weight is 4 x 3 x 7 x 7, where config\.json asks for 5 x 3 x 7 x 7$"),
        ({"width": 10**6}, r"config\.json asks for width: 1000000, more than model\.safetensors can hold$"),
        ({"blocks": 10**7}, r"config\.json asks for blocks: 10000000, more than model\.safetensors can hold$"),
        ({"blocks": 2}, r"lacks the tensor layers\.11\.layers\.1\.weight, which is 16 x 16 x 3 x 3 by config\.json$"),
    ],
)
def test_names_the_first_tensor_that_does_not_fit(saved: Path, change: dict[str, int], words: str) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(HeadError, match=words) as error:
        Head.from_pretrained(saved)
    assert "\n" not in str(error.value)


def test_names_a_tensor_that_is_missing_and_one_that_is_too_many(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    save_file({**weights, "mine": torch.zeros(2)}, saved / "model.safetensors")
    with pytest.raises(HeadError, match=r"tensor mine is none of a ResnetGenerator's as config\.json describes it"):
        Head.from_pretrained(saved)
    weights.pop("layers.1.bias")
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(HeadError, match=r"lacks the tensor layers\.1\.bias, which is 4 by config\.json"):
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


def test_what_was_measured_is_saved_and_not_measured_again(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((saved / "config.json").read_text())
    before = Head.from_pretrained(saved).descriptor

    def never(*_: object) -> float:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(Head, "gflop", never)
        patch.setattr(Head, "_bf16_psnr", never)
        assert Head.from_pretrained(saved).descriptor == before
        for name in shipped_heads():
            assert Head.from_pretrained(name).descriptor.bf16
    old = {key: value for key, value in config.items() if key not in ("gflop_512", "bf16_psnr")}
    assert old.keys() == {"architecture", "width", "blocks", "upsampling", "norm", "residual"}
    (saved / "config.json").write_text(json.dumps(old))  # a head of before
    assert replace(Head.from_pretrained(saved).descriptor, gflop_512=before.gflop_512) == before
    assert Head.from_pretrained(saved).descriptor.gflop_512 == pytest.approx(before.gflop_512, abs=5e-4)
    # What another kind of device has shown says nothing of this one.
    (saved / "config.json").write_text(json.dumps({**config, "bf16_psnr": {"cuda": 20.0}}))
    assert Head.from_pretrained(saved).descriptor.bf16
    (saved / "config.json").write_text(json.dumps({**config, "bf16_psnr": {"cpu": 20.0}}))
    assert not Head.from_pretrained(saved).descriptor.bf16


@pytest.mark.parametrize(
    "change",
    [{"gflop_512": "much"}, {"bf16_psnr": 60.0}, {"bf16_psnr": {"cpu": None}}, {"trained_at": 0}, {"trained_at": "64"}],
)
def test_refuses_figures_that_are_none(saved: Path, change: dict[str, object]) -> None:
    test_refuses_a_config_that_does_not_fit(saved, change)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.full((4,), torch.nan), r"tensor layers\.1\.bias holds NaN or infinity$"),
        (torch.tensor([0, torch.inf, 0, 0]).half(), r"tensor layers\.1\.bias holds NaN or infinity$"),
        (torch.ones(4, dtype=torch.int8), r"tensor layers\.1\.bias is int8, where floats are expected$"),
    ],
)
def test_refuses_weights_that_are_no_finite_floats(saved: Path, value: torch.Tensor, words: str) -> None:
    weights = load_file(saved / "model.safetensors")
    save_file({**weights, "layers.1.bias": value}, saved / "model.safetensors")
    with pytest.raises(HeadError, match=words):
        Head.from_pretrained(saved)


def test_hash_is_independent_of_what_was_measured(saved: Path) -> None:
    config = (saved / "config.json").read_text()
    fields = json.loads(config)
    for measured in ({}, {"gflop_512": 7}, {"gflop_512": 1.5, "bf16_psnr": {"cpu": 50, "cuda": 41.5}}):
        bare = {key: value for key, value in fields.items() if key not in ("gflop_512", "bf16_psnr")}
        (saved / "config.json").write_text(json.dumps({**bare, **measured}, indent=2) + "\n")
        plain = (json.dumps(bare, indent=2) + "\n").encode()
        assert head_hash(saved) == sha256(plain + (saved / "model.safetensors").read_bytes()).hexdigest()
    for other in ("{}", "[", "[]", '{"architecture": 3}'):  # whatever it is
        (saved / "config.json").write_text(other)
        assert head_hash(saved) == sha256(other.encode() + (saved / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("config", ["null", "1.5", "[]", "{", '"gflop_512"'])
def test_a_config_that_is_none_has_a_hash_too(saved: Path, config: str) -> None:
    (saved / "config.json").write_text(config)
    assert head_hash(saved) == sha256(config.encode() + (saved / "model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(HeadError, match="is not a head this version can read"):
        Head.from_pretrained(saved)


def test_hashes_of_shipped_heads_stay() -> None:
    # Records of what they enhanced name them: another hash would mean to enhance all anew.
    assert {name: head_hash(WEIGHTS / name)[:12] for name in shipped_heads()} == {
        "flux1": "d277075da9bc",
        "flux1-lite": "b4d1a54d4673",
        "tiny-best": "9a68c32627b5",
        "tiny-cyclegan": "09dba24847c5",
        "tiny-esa": "5f730b5fd1c6",
        "tiny-unet": "e72b29d07491",
    }


def test_the_scale_of_the_training_is_kept_and_tells_heads_apart(saved: Path) -> None:
    before = head_hash(saved)
    head = Head.from_pretrained(saved)
    assert head.descriptor.trained_at is None
    head.trained_at = 475
    head.save_pretrained(saved)
    assert json.loads((saved / "config.json").read_text())["trained_at"] == 475
    assert Head.from_pretrained(saved).descriptor.trained_at == 475
    assert head_hash(saved) != before  # its pictures are others
    assert {name: Head.from_pretrained(name).trained_at for name in shipped_heads()} == {
        "flux1": 448,
        "flux1-lite": 475,
        "tiny-best": 64,
        "tiny-cyclegan": 64,
        "tiny-esa": 64,
        "tiny-unet": 64,
    }


def test_hash_tells_heads_apart(saved: Path, tmp_path: Path) -> None:
    before = head_hash(saved)
    assert before == head_hash(saved)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "residual": True}))
    assert head_hash(saved) != before
    with pytest.raises(HeadError, match=r"has no config\.json"):
        head_hash(tmp_path)
