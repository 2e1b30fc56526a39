"""Heads and pairs data sets on a hub of our own, on loopback."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants

from tests.conftest import strong
from tests.hub.stub import OID, Stub
from undistill.base.errors import Failure, UsageError
from undistill.dataset.shard import Pairs
from undistill.heads import Head, HeadError, UNet
from undistill.hub.pairs import pairs_card, push_pairs

ME = "me/mine"


@pytest.fixture
def pushed(hub: Stub) -> Head:
    head = strong(UNet(width=4, depth=2))
    head.push_to_hub(ME)
    return head


def test_a_head_goes_up_and_comes_back(hub: Stub, pushed: Head) -> None:
    kept = hub.repositories[f"models/{ME}"]
    assert set(kept) == {"README.md", "config.json", "model.safetensors"}
    config = json.loads(kept["config.json"])
    assert (config["architecture"], config["width"], config["depth"]) == ("UNet", 4, 2)
    metadata = yaml.safe_load(kept["README.md"].decode().split("---")[1])
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("undistill", "image-to-image")
    back = Head.from_pretrained(ME)
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    assert (back(x) - pushed(x)).abs().max() < 0.02  # stored as float16
    assert back.folder is not None
    assert back.folder.name == OID


def test_revisions_and_offline(hub: Stub, pushed: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HeadError, match=r"the head me/mine has no revision v2 on the Hugging Face hub") as error:
        Head.from_pretrained(ME, revision="v2")
    assert "\n" not in str(error.value)
    hub.revisions.add("v1")
    assert Head.from_pretrained(ME, revision="v1").config == pushed.config
    # Downloaded once, it needs no hub; what was not, is one line.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    assert Head.from_pretrained(ME, revision="v1").config == pushed.config
    with pytest.raises(HeadError, match=r"no head 'me/other': .* nor to be had from the hub") as error:
        Head.from_pretrained("me/other")
    assert "\n" not in str(error.value)
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("model.safetensors", b"\x00" * 64, "is not a head this version can read"),
        ("config.json", b'{"architecture": "UNet"', "is not a head this version can read"),
        ("config.json", None, r"is not a head: it has no config\.json"),
    ],
    ids=["weights", "config", "no config"],
)
@pytest.mark.usefixtures("pushed")
def test_bad_files_are_one_line(file: str, content: bytes | None, words: str, hub: Stub) -> None:
    kept = hub.repositories[f"models/{ME}"]
    if content is None:
        del kept[file]
    else:
        kept[file] = content
    with pytest.raises(HeadError, match=words) as error:
        Head.from_pretrained(ME)
    assert "\n" not in str(error.value)


def test_what_the_hub_does_not_have(hub: Stub) -> None:
    with pytest.raises(
        HeadError, match=r"no head 'me/nobodys': .*, nor on the Hugging Face hub \(if it is private"
    ) as error:
        Head.from_pretrained("me/nobodys")
    assert "\n" not in str(error.value)
    assert hub.asked


def test_a_data_set_goes_up_as_it_is(hub: Stub, pairs_folder: Callable[..., Path]) -> None:
    folder = pairs_folder("pairs", 6)
    assert push_pairs(folder, ME) == f"{hub.address}/datasets/{ME}"
    kept = hub.repositories[f"datasets/{ME}"]
    assert set(kept) == {"README.md", "dataset.json", "shard-000000.parquet", "shard-000001.parquet"}
    for name in set(kept) - {"README.md"}:
        assert kept[name] == (folder / name).read_bytes()
    assert kept["README.md"].decode() == pairs_card(folder)
    assert not (folder / "README.md").exists()
    assert sum(request.startswith("POST /api/datasets/me/mine/commit") for request in hub.asked) == 1


def test_the_card_of_a_data_set(pairs_folder: Callable[..., Path]) -> None:
    folder = pairs_folder("pairs", 6)
    text = pairs_card(folder)
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata["size_categories"] == ["n<1K"]
    assert metadata["configs"][0]["data_files"] == [{"split": "train", "path": "shard-*.parquet"}]
    assert "6 portraits of 72 px" in text
    assert "- portrait 0\n- portrait 1\n" in text
    assert Pairs(folder).description.spec in text
    assert "show the same person" in text
    described = json.loads((folder / "dataset.json").read_text())
    described["pair"]["teacher"] = {"start": "text"}
    (folder / "dataset.json").write_text(json.dumps(described))
    assert "**unpaired** by design" in pairs_card(folder)


def test_refuses_in_one_line(hub: Stub, pairs_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pairs_folder("pairs", 6)
    with pytest.raises(UsageError, match="is no id of the hub: write owner/name"):
        push_pairs(folder, "me/mine/too/many")
    with pytest.raises(UsageError, match="gone"):
        push_pairs(folder.parent / "gone", ME)
    (folder / "shard-000001.parquet").unlink()
    with pytest.raises(UsageError, match="pairs"):
        push_pairs(folder, ME)
    assert not hub.repositories
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Failure, match=r"me/mine can't be written on the Hugging Face hub: ") as error:
        push_pairs(pairs_folder("others", 6), ME)
    assert "\n" not in str(error.value)


def test_folders_of_this_machine_are_not_published(
    hub: Stub, pairs_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = pairs_folder("pairs", 6)
    described = json.loads((folder / "dataset.json").read_text())
    lora = tmp_path / "secret-customer" / "style.safetensors"
    described["pair"] |= {
        "student": {"model": str(tmp_path / "secret-customer" / "flux"), "lora": str(lora)},
        "teacher": {"model": "black-forest-labs/FLUX.1-dev", "gguf": "city96/FLUX.1-dev-gguf/flux1-dev-Q4_K_S.gguf"},
        "head": "../secret-customer/head",
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    push_pairs(folder, ME)
    kept = hub.repositories[f"datasets/{ME}"]
    assert not [name for name, data in kept.items() if b"secret-customer" in data]
    pair = json.loads(kept["dataset.json"])["pair"]
    assert pair["student"] == {"model": "flux", "lora": "style.safetensors"}
    assert (pair["teacher"], pair["head"]) == (described["pair"]["teacher"], "head")
    assert json.loads(kept["dataset.json"]) == described | {"pair": pair}
    assert "by `flux` (student), and by `black-forest-labs/FLUX.1-dev` (teacher)" in kept["README.md"].decode()
