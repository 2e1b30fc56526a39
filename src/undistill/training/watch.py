"""Losses and weights that are not finite end a run before they are saved."""

from operator import itemgetter
from pathlib import Path

import torch

from undistill.base.errors import Failure
from undistill.training import ranks
from undistill.training.method import Losses, Method


class Diverged(Failure):
    """Losses or weights are no longer numbers."""


class Watch:
    """Looks out for losses and weights that are not finite, without a wait for the device in each step.

    Args:
        saved: the step of `last.safetensors`.
    """

    def __init__(self, method: Method, run: Path, saved: int) -> None:
        self.method = method
        self.run = run
        self.saved = saved
        self.first = torch.full((len(method.columns),), torch.inf, device=method.fabric.device)

    def see(self, step: int, losses: Losses) -> None:
        """Remember the step if it is the first in which a loss is not finite, for each of the losses."""
        values = torch.stack([losses[name] for name in self.method.columns])
        self.first = torch.where(torch.isfinite(values), self.first, self.first.clamp(max=step))

    def check(self, step: int) -> None:
        """All ranks call it together.

        Raises:
            Diverged: a loss was not finite up to this step, or a weight isn't; it says which.
        """
        with ranks.together(self.method.fabric):
            first, name = min(zip(self.first.tolist(), self.method.columns, strict=True), key=itemgetter(0))
            bad = f"step {first:.0f}: {name} is" if first <= step else self._weights(step)
            if bad is not None:
                kept = f"is that of step {self.saved}" if self.saved else "was not written yet"
                raise Diverged(f"{bad} not finite; {self.run / 'last.safetensors'} {kept}. Take a lower lr")

    def _weights(self, step: int) -> str | None:
        for name, network in self.method.networks.items():
            if not torch.stack([weight.detach().isfinite().all() for weight in network.parameters()]).all():
                return f"step {step}: weights of {name} are"
        return None
