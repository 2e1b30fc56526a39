"""What a way of training says of itself, and the step and the validation that are the same for all of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from undistill.training import ranks
from undistill.training.recipe import Schedule

Batch = tuple[Tensor, ...]
Outputs = tuple[Tensor, ...]
Losses = dict[str, Tensor]
"""Scalars by their columns in metrics.csv."""
Networks = Mapping[str, Any]
"""By name: in training as Fabric wraps them, in validation the averages of those that have one."""


@dataclass(frozen=True)
class Phase:
    """One optimizer's turn in a step: the gradients of its losses over all batches, then its update.

    Args:
        optimizer: its name.
        networks: names of those that learn; the gradients of the others are not computed.
        losses: of a batch and of what `Method.forward` gave for it. In a step's first phase the outputs carry
            gradients, in the later ones they don't.
        max_norm: gradients are clipped to it.
    """

    optimizer: str
    networks: tuple[str, ...]
    losses: Callable[[Networks, Batch, Outputs], Losses]
    max_norm: float | None = None


class Method(ABC):
    """A way of training: its networks, their optimizers, its losses. All else is the loop's.

    A step calls `begin`, then `forward` for each of its batches, and goes backward from the losses of each phase;
    see `train_step`.

    Args:
        networks: by name, on the device.
        averaged: names of those of which a moving average of the weights is kept.
    """

    columns: tuple[str, ...]
    """Of the losses, in metrics.csv."""
    validation_columns: tuple[str, ...] = ("val_loss",)
    optimizers: dict[str, torch.optim.Optimizer]
    phases: tuple[Phase, ...]
    weights: Mapping[str, float]
    """Of the losses in their sum; 1 for those that are not named."""

    def __init__(
        self, fabric: Fabric, recipe: Schedule, networks: Mapping[str, nn.Module], averaged: Sequence[str]
    ) -> None:
        self.fabric = fabric
        self.networks = dict(networks)
        self.averages = {name: MovingAverage(networks[name], recipe.ema) for name in averaged}
        self.wrapped: dict[str, Any] = {name: self.wrap(network) for name, network in networks.items()}
        self.weights = {}

    def wrap(self, network: nn.Module) -> Any:
        """The network as Fabric trains it."""
        return self.fabric.setup_module(network)

    @property
    def averaged(self) -> dict[str, Any]:
        """The networks as they are validated: the averages of those that have one."""
        return self.networks | {name: average.module for name, average in self.averages.items()}

    def schedule(self, progress: float) -> float:
        """Factor of the learning rate, by the progress of the run in [0, 1)."""
        return 1.0

    def prepare(self) -> None:  # noqa: B027  # few have something to do here
        """Find in the data what training needs and no checkpoint has given, before the first step."""

    def begin(self, step: int, batches: Sequence[Batch]) -> None:  # noqa: B027  # few have something to do here
        """Get ready for a step, e.g. its random numbers."""

    @abstractmethod
    def forward(self, networks: Networks, batch: Batch) -> Outputs:
        """What the networks make of a batch."""

    def total(self, losses: Losses) -> Tensor:
        """The weighted sum of the losses."""
        return torch.stack([self.weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()

    def validation(self, batch: Batch) -> dict[str, Tensor]:
        """Means over the images of a batch, of any shape: the losses that `networks` are trained with, unless told."""
        with self.fabric.autocast():
            losses = self.phases[0].losses(self.averaged, batch, self.forward(self.averaged, batch))
            return {"val_loss": self.total(losses)}

    def figures(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """The validation columns, from what `validation` gives, averaged over all images."""
        return means

    @abstractmethod
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid."""

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint needs beside networks, averages and optimizers."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:  # noqa: B027  # few have something to do here
        """Undo `extra_state`, of this version or an older one."""


def train_step(method: Method, batches: Sequence[Batch], step: int) -> Losses:
    """One step: each phase's gradients over all the batches, summed up before the ranks share them; its update.

    Returns: this rank's losses, means over the batches, on the device; 0 where the recipe gives them no weight.
    """
    share = 1 / len(batches)
    totals = dict.fromkeys(method.columns, torch.zeros((), device=method.fabric.device))
    outputs: list[Outputs] = []
    method.begin(step, batches)
    for phase in method.phases:
        optimizer = method.optimizers[phase.optimizer]
        optimizer.zero_grad()
        with _frozen(network for name, network in method.networks.items() if name not in phase.networks):
            for number, batch in enumerate(batches):
                with _gradients_shared(method, phase.networks if number == len(batches) - 1 else ()):
                    if phase is method.phases[0]:
                        outputs.append(method.forward(method.wrapped, batch))
                    losses = phase.losses(method.wrapped, batch, outputs[number])
                    method.fabric.backward(method.total(losses) * share)
                outputs[number] = tuple(output.detach() for output in outputs[number])
                for name, loss in losses.items():
                    totals[name] = totals[name] + loss.detach() * share
        if phase.max_norm is not None:
            nn.utils.clip_grad_norm_(_learned(optimizer), phase.max_norm)
        optimizer.step()
    for name, average in method.averages.items():
        average.update(method.networks[name], step)
    return totals


@torch.no_grad()
def validation_figures(method: Method, batches: Iterable[Batch]) -> dict[str, float]:
    """The validation columns: means over all images of all ranks, each of which may have another number, or none."""
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        for name, mean in method.validation(batch).items():
            sums[name] = sums.get(name, 0) + mean.double() * len(batch[0])
        count += len(batch[0])
    sums, count = ranks.summed(method.fabric, sums, count)
    return {name: float(value) for name, value in method.figures({n: s / count for n, s in sums.items()}).items()}


def _learned(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@contextmanager
def _frozen(networks: Iterable[nn.Module]) -> Iterator[None]:
    # The generators' phase needs no gradient of the discriminators' weights: leaving it out saves a third of it.
    learning = [each for network in networks for each in network.parameters() if each.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def _gradients_shared(method: Method, names: Sequence[str]) -> Iterator[None]:
    """The ranks add up the gradients of these networks at the end of the block, and of no others."""
    with ExitStack() as stack:
        for name, network in method.wrapped.items():
            if name not in names:
                stack.enter_context(method.fabric.no_backward_sync(network))
        yield


class MovingAverage:
    """`module` holds it: after step t, d x average + (1 - d) x weights with d = min(decay, (1 + t) / (10 + t)).

    The rising decay forgets the untrained start. Decay 0 follows the weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the weights of a network, after a step."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self.module.parameters(), network.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
