"""The whole way of one image: prompt, student, head."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from undistill.base.errors import UsageError
from undistill.enhance import Enhancer
from undistill.heads import Head
from undistill.images import Pixels
from undistill.integrations.diffusers import device_of
from undistill.pairs.generator import Generator
from undistill.pairs.place import Offload
from undistill.pairs.spec import PairSpec, read_spec


@dataclass(frozen=True)
class Drawn:
    """What a pipeline made of some prompts, in their order."""

    images: list[Image.Image]
    """Enhanced; the student's own where there is no head."""
    student: list[Image.Image]
    """Before the head."""


class Pipeline:
    """A pair's student with a head behind it.

    Args:
        pair: a pair spec, or what `read_spec` takes: a shipped name or a YAML file; None: `tiny`.
        head: a `Head`, or what `Head.from_pretrained` takes; None: the pair's own, if it has one; False: none, and the
            images are the student's own.
        device: where to run; None: a GPU if there is one, else the CPU.
        offload: what waits on the CPU until it is asked; None: as little as the GPU's free memory lets stay there.
        student: a loaded diffusers pipeline that draws in place of the pair's student, in the steps and at the size of
            the pair, which is to be named then. It stays where it is, and the head runs there, too.

    Raises:
        UsageError: no such pair, head or device, or a student without its pair.
        Failure: the student's weights can't be had.

    Example:
        pipeline = undistill.Pipeline("tiny")
        pipeline("A professional portrait of Ada Okafor", seed=1).images[0].save("ada.png")
    """

    def __init__(
        self,
        pair: PairSpec | str | Path | None = None,
        head: Head | str | Path | Literal[False] | None = None,
        device: str | torch.device | None = None,
        offload: Offload | None = None,
        student: Any = None,
    ) -> None:
        if student is not None:
            if pair is None:
                raise UsageError(
                    "a loaded student needs its pair, which says how it is asked, e.g. Pipeline('flux1', student=...); "
                    "undistill.wrap(student, head) asks nothing"
                )
            device = device_of(student) if device is None else device
        spec = pair if isinstance(pair, PairSpec) else read_spec("tiny" if pair is None else pair)
        chosen = spec.head if head is None else head
        # The head first: a wrong name shows before the generator's gigabytes are loaded.
        self.enhancer = None if chosen is None or chosen is False else Enhancer(chosen, device)
        self.generator = Generator(spec, device, offload, student)

    def __call__(self, prompt: str | Sequence[str], seed: int | Sequence[int] = 0) -> Drawn:
        """Draw a prompt by a seed, or a batch of prompts by a seed each; `.images` has what came of it."""
        if isinstance(prompt, str) != isinstance(seed, int):
            raise TypeError("a prompt takes a seed, a list of prompts a list of seeds")
        prompts = [prompt] if isinstance(prompt, str) else prompt
        stages = self.stages(prompts, [seed] if isinstance(seed, int) else seed)
        student, images = ([Image.fromarray(pixels) for pixels in stage] for stage in (stages[0], stages[-1]))
        return Drawn(images, student)

    def stages(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Pixels]:
        """The student's images of one batch and, with a head, the enhanced ones: (N, size, size, 3) uint8 each."""
        student = self.generator.student(prompts, seeds)
        return [student] if self.enhancer is None else [student, self.enhancer(student)]
