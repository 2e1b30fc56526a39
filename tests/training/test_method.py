"""What holds for every way of training: a step over parts is the step over the whole, a validation likewise."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from tests.training.test_run import OF_MODE, recipe
from undistill.training.loop import start
from undistill.training.method import Method, train_step, validation_figures
from undistill.training.run import method_of

Make = Callable[..., Method]


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(count, 3, 8, 8, generator=random) * 2 - 1 for _ in range(2))
    x, y = (torch.nn.functional.interpolate(side, 64, mode="bilinear") for side in (x, y))
    return x, 0.5 * y


def make(mode: str, **changes: Any) -> Method:
    made = recipe(mode, **changes)
    method = method_of(start(made, "cpu"), made, TensorDataset(*images(16)), (16, 16))
    method.prepare()
    return method


def parts(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(x, size), torch.split(y, size), strict=True))


def gradient(network: torch.nn.Module) -> Tensor:
    """Of all weights in a row: those of a bias before instance norm are nothing but rounding."""
    return torch.cat([weight.grad.flatten() for weight in network.parameters() if weight.grad is not None])


@pytest.mark.parametrize("mode", OF_MODE)
def test_two_batches_of_8_are_one_of_16(mode: str) -> None:
    changes = {"augment": True, "tone": 1.0} if mode in ("unpaired", "contrastive") else {}
    together, apart = make(mode, **changes), make(mode, **changes)
    for step in range(2):  # in the second one there is something to remember
        whole = train_step(together, parts(*images(16, step), 16), step)
        halves = train_step(apart, parts(*images(16, step), 8), step)
        assert {name: float(loss) for name, loss in halves.items()} == pytest.approx(
            {name: float(loss) for name, loss in whole.items()}, rel=1e-3
        )
        if step == 0:  # the rounding of this step, enlarged by Adam, would be in the gradients of the next
            for name, network in together.networks.items():
                a, b = gradient(network), gradient(apart.networks[name])
                assert float((a - b).norm()) < 1e-3 * float(a.norm()), name


@pytest.mark.parametrize("mode", OF_MODE)
def test_validation_is_a_mean_over_images(mode: str) -> None:
    method = make(mode)
    whole, odd = (validation_figures(method, parts(*images(9), size)) for size in (9, 8))
    assert odd == pytest.approx(whole, rel=1e-4)
    assert tuple(whole) == method.validation_columns


@pytest.mark.parametrize("mode", OF_MODE)
def test_a_step_does_not_wait_for_the_device(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = make(mode)

    def refuse(name: str) -> Callable[..., Any]:
        before = getattr(torch.Tensor, name)

        def called(*arguments: Any) -> Any:
            caller = sys._getframe(1).f_code.co_filename
            assert "undistill" not in caller, f"{name} in {caller}"  # torch's Adam counts its steps on the CPU
            return before(*arguments)

        return called

    for name in ("item", "tolist", "__float__", "__int__", "__bool__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refuse(name))
    train_step(method, parts(*images(4), 2), 0)


def test_only_the_networks_of_a_phase_learn_in_it() -> None:
    method = make("unpaired")
    seen: dict[str, set[str]] = {}

    def watched(phase: str, losses: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            seen[phase] = {
                name for name, network in method.networks.items() if next(network.parameters()).requires_grad
            }
            return losses(*arguments)

        return called

    for phase in method.phases:
        object.__setattr__(phase, "losses", watched(phase.optimizer, phase.losses))
    train_step(method, parts(*images(2), 2), 0)
    assert seen == {"generators": {"G", "F"}, "discriminators": {"D_Y", "D_X"}}
    assert all(parameter.requires_grad for network in method.networks.values() for parameter in network.parameters())
