import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from undistill.base.errors import Failure, UsageError
from undistill.pairs import load as module
from undistill.pairs.load import Weights, WeightsRef, find_weights, load_pipeline

ID = "black-forest-labs/FLUX.1-dev"


def failure(model: WeightsRef, rest: WeightsRef) -> str:
    with pytest.raises(Failure) as error:
        load_pipeline("text-to-image", model, rest, Weights(torch.float32), {})
    assert "\n" not in str(error.value)
    return str(error.value)


def test_finds_folders_then_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_weights(ID, "main") == WeightsRef(ID, "main")
    assert find_weights(str(tmp_path), "main") == WeightsRef(str(tmp_path.resolve()))
    assert Path(find_weights("flux1-lite").name).parent.name == "weights"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "black-forest-labs" / "FLUX.1-dev").mkdir(parents=True)
    assert find_weights(ID) == WeightsRef(str((tmp_path / ID).resolve()))
    for name in ("tiny-gone", "./a", "a/b/c"):
        with pytest.raises(UsageError, match=f"no weights '{name}': neither a folder, nor shipped"):
            find_weights(name)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            GatedRepoError,
            f"{ID} is gated: accept its licence at https://huggingface.co/{ID}, then log in with `hf auth",
        ),
        (RepositoryNotFoundError, f"no model {ID} on the Hugging Face hub"),
        (RevisionNotFoundError, f"{ID} has no revision v2"),
        (RemoteEntryNotFoundError, f"{ID} has no model_index.json"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    error: Callable[..., Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise error("401\n\nmany lines", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(module, "hf_hub_download", refuse)
    assert message in failure(WeightsRef(ID, "v2"), WeightsRef(ID, "v2"))


def test_offline_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert f"{ID} is not downloaded yet, and the Hugging Face hub can't be reached" in failure(
        WeightsRef(ID), WeightsRef(ID)
    )

    def unreachable(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("no network\nat all")

    monkeypatch.setattr(module, "hf_hub_download", unreachable)
    assert "can't be reached" in failure(WeightsRef(ID), WeightsRef(ID))


def test_broken_folders_are_one_line(miniature: Path, tmp_path: Path) -> None:
    dev = WeightsRef(str(miniature.parent / "dev"))
    assert "has no model_index.json" in failure(dev, WeightsRef(str(tmp_path)))
    assert "has no scheduler/scheduler_config.json" in failure(WeightsRef(str(tmp_path)), dev)
    broken = tmp_path / "broken"
    shutil.copytree(miniature.parent / "schnell", broken)
    (broken / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    assert f"{broken} can't be loaded: " in failure(WeightsRef(str(broken)), dev)
    (broken / "scheduler" / "scheduler_config.json").write_text("{")
    assert f"{broken} can't be loaded: " in failure(WeightsRef(str(broken)), dev)
    (broken / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert "has no denoiser of its own" in failure(dev, WeightsRef(str(broken)))


def test_pickled_weights_are_refused(miniature: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(miniature.parent / "schnell", pickled)
    (pickled / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, pickled / "transformer" / "diffusion_pytorch_model.bin")
    assert "can't be loaded" in failure(WeightsRef(str(pickled)), WeightsRef(str(miniature.parent / "dev")))


def test_an_older_diffusers_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "Flux9Pipeline"}')
    place = WeightsRef(str(tmp_path))
    assert re.search(r"is a Flux9Pipeline, which diffusers [\d.]+ doesn't know: pip install -U", failure(place, place))
