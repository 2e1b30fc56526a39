"""One enhancer for many threads."""

from collections.abc import Callable
from math import inf
from threading import Lock

import numpy as np

from undistill.base.machine import free_memory
from undistill.base.threads import Room
from undistill.enhance.enhancer import Enhancer
from undistill.images import Pixels

PIXEL_BYTES = 1000
"""What a head takes for a pixel: shipped ones up to 650, and the published generator, 1,700, fits as well, since they
get half of the memory that is free."""
AT_ONCE = 512 * 512
"""Pixels of a batch on a CPU. There a larger one takes memory, and no less time."""


class SharedEnhancer:
    """An enhancer that many threads call: the first one makes it, and as many run as memory has room for, on a GPU one.

    Args:
        make: makes the enhancer, when the first image needs it.
    """

    def __init__(self, make: Callable[[], Enhancer]) -> None:
        self._make = make
        self._making = Lock()
        self._made: tuple[Enhancer, Room] | None = None

    def __call__(self, images: Pixels, strength: float) -> Pixels:
        """Enhanced images, as `Enhancer` makes them; a batch on a CPU some at a time.

        Args:
            images: (H, W, 3) or (N, H, W, 3).
            strength: 0 to 1.
        """
        with self._making:
            self._made = self._made or self._prepare()
        enhancer, room = self._made
        batch = images if images.ndim == 4 else images[None]
        # Smaller images than a head was trained on are enlarged.
        seen = max(batch.shape[1] * batch.shape[2], (enhancer.head.trained_at or 0) ** 2)
        some = max(1, AT_ONCE // seen) if enhancer.device.type == "cpu" else len(batch)
        enhanced = []
        for first in range(0, len(batch), some):
            part = batch[first : first + some]
            with room(len(part) * seen):
                enhanced.append(enhancer(part, strength))
        return np.concatenate(enhanced) if images.ndim == 4 else enhanced[0][0]

    def _prepare(self) -> tuple[Enhancer, Room]:
        enhancer = self._make()
        return enhancer, Room((free_memory() or inf) / 2 / PIXEL_BYTES if enhancer.device.type == "cpu" else 0)
