"""The whole way of one image: prompt, student, head."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

import torch
from PIL import Image

from undistill.enhance import Enhancer
from undistill.heads import Head
from undistill.images import Pixels
from undistill.pairs.generator import Generator
from undistill.pairs.place import Offload
from undistill.pairs.spec import PairSpec, read_spec


class Pipeline:
    """A pair's student with a head behind it.

    Args:
        pair: a pair spec, or what `read_spec` takes: a shipped name or a YAML file.
        head: a `Head`, or what `Head.from_pretrained` takes; None: the pair's own, if it has one; False: none, and the
            images are the student's own.
        device: where to run; None: a GPU if there is one, else the CPU.
        offload: what waits on the CPU until it is asked; None: as little as the GPU's free memory lets stay there.

    Raises:
        UsageError: no such pair, head or device.
        Failure: the student's weights can't be had.

    Example:
        pipeline = undistill.Pipeline("tiny")
        pipeline("A professional portrait of Ada Okafor", seed=1).save("ada.png")
    """

    def __init__(
        self,
        pair: PairSpec | str | Path = "tiny",
        head: Head | str | Path | Literal[False] | None = None,
        device: str | torch.device | None = None,
        offload: Offload | None = None,
    ) -> None:
        spec = pair if isinstance(pair, PairSpec) else read_spec(pair)
        chosen = spec.head if head is None else head
        # The head first: a wrong name shows before the generator's gigabytes are loaded.
        self.enhancer = None if chosen is None or chosen is False else Enhancer(chosen, device)
        self.generator = Generator(spec, device, offload)

    @overload
    def __call__(self, prompt: str, seed: int = 0) -> Image.Image: ...
    @overload
    def __call__(self, prompt: Sequence[str], seed: Sequence[int]) -> list[Image.Image]: ...
    def __call__(self, prompt: str | Sequence[str], seed: int | Sequence[int] = 0) -> Image.Image | list[Image.Image]:
        """The enhanced image of a prompt and a seed, or those of a batch of prompts with a seed each."""
        if isinstance(prompt, str) and isinstance(seed, int):
            return Image.fromarray(self.stages([prompt], [seed])[-1][0])
        if isinstance(prompt, str) or isinstance(seed, int):
            raise TypeError("a prompt takes a seed, a list of prompts a list of seeds")
        return [Image.fromarray(pixels) for pixels in self.stages(prompt, seed)[-1]]

    def stages(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Pixels]:
        """The student's images of one batch and, with a head, the enhanced ones: (N, size, size, 3) uint8 each."""
        student = self.generator.student(prompts, seeds)
        return [student] if self.enhancer is None else [student, self.enhancer(student)]
