"""Exponential moving average of a network's weights."""

from copy import deepcopy

import torch
from torch import nn


class Average:
    """`module` holds it: after step t, d x average + (1 - d) x weights with d = min(decay, (1 + t) / (10 + t)).

    The rising decay forgets the untrained start. Decay 0 follows the weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self.module.parameters(), network.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
