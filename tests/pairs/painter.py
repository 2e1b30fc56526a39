"""Stands for a `Generator` where the images don't matter; worker processes import it, so it is a module of its own."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from undistill.base.errors import Failure
from undistill.images import Pixels
from undistill.pairs.spec import PairSpec


class Painter:
    """Noise by prompt and seed, and its inverse; the first value is the number of torch's threads."""

    def __init__(self, spec: PairSpec, device: Any = None, offload: Any = None) -> None:
        self.size = spec.size
        if os.environ.get("PAINTER") == "has no weights":
            raise Failure("no weights here")

    def student(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        if os.environ.get("PAINTER") == "slow":
            time.sleep(0.2)
        if os.environ.get("PAINTER") == "dies":
            os.kill(os.getpid(), 9)
        images = [
            np.random.default_rng([seed, *prompt.encode()]).integers(0, 256, (self.size, self.size, 3), np.uint8)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        images[0][0, 0, 0] = torch.get_num_threads()
        return np.stack(images)

    def teacher(self, prompts: Sequence[str], seeds: Sequence[int], images: Pixels) -> Pixels:
        assert len(prompts) == len(seeds) == len(images)
        return 255 - images


class Slow(Painter):
    """Leaves time to kill somebody."""

    def student(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        time.sleep(0.2)
        return super().student(prompts, seeds)


class Mortal(Painter):
    """At its second batch it is killed with -9, and so are those who come after it, `deaths` of them all in all."""

    def __init__(self, spec: PairSpec, tombs: Path, deaths: int) -> None:
        super().__init__(spec)
        self.tombs = tombs
        self.deaths = deaths
        self.batches = 0

    def student(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        self.batches += 1
        dead = len(list(self.tombs.iterdir()))
        if self.batches == 2 and dead < self.deaths:
            (self.tombs / str(os.getpid())).touch()
            os.kill(os.getpid(), 9)
        return super().student(prompts, seeds)
