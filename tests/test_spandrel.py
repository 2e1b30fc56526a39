import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import undistill
from tests.conftest import strong
from undistill.base.errors import Failure
from undistill.enhance import Enhancer
from undistill.heads import EsaGenerator, GridHead, Head, HeadError, ResnetGenerator, UNet
from undistill.spandrel import FLAGS, head_of, save

HEADS: dict[str, Callable[[], Head]] = {
    "resnet": lambda: ResnetGenerator(4, 2, "transposed", "pixel", residual=True),
    "esa": lambda: EsaGenerator(8, 1),
    "unet": lambda: UNet(4, 3, residual=True),
    "grid": lambda: GridHead(8, bins=3, bands=2),
}


def made(kind: str) -> Head:
    head = strong(HEADS[kind]())
    head.trained_at = 96
    return head


@pytest.mark.parametrize("kind", HEADS)
def test_a_file_tells_which_head_it_is(kind: str, tmp_path: Path) -> None:
    head = made(kind)
    save(head, tmp_path / "head.safetensors")
    state = load_file(tmp_path / "head.safetensors")
    assert (state[FLAGS].dtype, state[FLAGS].numel()) == (torch.int32, 7)
    found = head_of(state)
    assert type(found) is type(head)
    assert found.config == head.config
    assert found.trained_at == 96
    found.load_state_dict({name: tensor for name, tensor in state.items() if name != FLAGS})


def test_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    class Mine(UNet):
        """Nobody else knows it."""

    with pytest.raises(HeadError, match="has no room for a Mine"):
        save(Mine(4, 2), tmp_path / "mine.safetensors")
    for flags in ([2, 0, 0, 0, 0, 0, 0], [1, 9, 0, 0, 0, 0, 0], [1]):
        with pytest.raises(HeadError, match="which this version of undistill does not know"):
            head_of({FLAGS: torch.tensor(flags)})
    with pytest.raises(HeadError, match=r"its tensors are no UNet's: 'last\.weight'"):
        head_of({FLAGS: torch.tensor([1, 2, 0, 0, 0, 0, 0])})


def test_without_spandrel_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(Failure, match=r"spandrel can't be imported: .*\(pip install spandrel\)") as error:
        undistill.spandrel.install()
    assert "\n" not in str(error.value)


@pytest.fixture
def spandrel() -> Any:
    try:
        import spandrel
    except Exception as error:
        pytest.skip(f"spandrel can't be imported: {error}")
    undistill.spandrel.install()
    undistill.spandrel.install()
    return spandrel


@pytest.mark.parametrize("kind", HEADS)
def test_spandrel_loads_and_runs_it(kind: str, spandrel: Any, tmp_path: Path) -> None:
    head = made(kind)
    save(head, tmp_path / "head.safetensors")
    model = spandrel.ModelLoader().load_from_file(tmp_path / "head.safetensors")
    assert (model.architecture.id, model.purpose, model.scale) == ("undistill", "Restoration", 1)
    assert not model.supports_bfloat16
    image = torch.rand(1, 3, 90, 75, generator=torch.Generator().manual_seed(0))
    head.load_state_dict({name: tensor.half().float() for name, tensor in head.state_dict().items()})
    assert torch.equal(model(image), Enhancer(head, "cpu")(image))


def test_other_models_are_still_found(spandrel: Any, tmp_path: Path) -> None:
    compact = {"body.0.weight": torch.zeros(8, 3, 3, 3), "body.0.bias": torch.zeros(8), "body.1.weight": torch.zeros(8),
               "body.2.weight": torch.zeros(12, 8, 3, 3), "body.2.bias": torch.zeros(12)}  # fmt: skip
    save_file(compact, tmp_path / "compact.safetensors")
    found = spandrel.ModelLoader().load_state_dict_from_file(tmp_path / "compact.safetensors")
    detected = [
        entry.architecture.id for entry in spandrel.MAIN_REGISTRY.architectures("detection") if entry.detect(found)
    ]
    assert "undistill" not in detected
    assert "Compact" in detected
