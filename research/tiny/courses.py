"""Courses of tiny-dev, from noise to image: what tiny-schnell learns from."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from research.tiny.flow import dev_schedule
from research.tiny.model import Velocity, follow
from research.tiny.prompts import Tokens
from research.tiny.recipe import StepsRecipe
from undistill.base.files import replacing
from undistill.base.progress import progress
from undistill.dataset.read import shuffled

COURSE_CHUNK = 128
Course = dict[str, Tensor]


def draw_courses(
    dev: Velocity, side: int, ids: Sequence[Tokens], recipe: StepsRecipe, seed: int, fabric: Fabric, path: Path
) -> Course:
    """Courses for each prompt, kept at `path`, chunk by chunk, so that a killed run goes on.

    Args:
        side: of the latents.
        ids: T5's and CLIP's of the prompts, (prompts, LENGTH) each.
        seed: of the noise.

    Returns: `end` (courses, 16, side, side), `t5` and `clip` (courses, LENGTH); the noise is a function of the place.
    """

    def chunk(start: int) -> Course:
        t5, clip = (torch.from_numpy(each[start : start + COURSE_CHUNK].astype(np.int64)) for each in ids)
        channels = dev.transformer.config.in_channels // 4
        noise = torch.stack([noise_of(start + k, channels, side, seed) for k in range(len(t5))])
        ids_and_noise = (t5.to(fabric.device), clip.to(fabric.device), noise.to(fabric.device))
        end = _ends(dev, *ids_and_noise, recipe, fabric)
        return {"end": end.half().cpu(), "t5": t5.short(), "clip": clip.short()}

    chunks: list[Course] = []
    count = len(ids[0])
    with progress(f"drawing {path.stem}", -(-count // COURSE_CHUNK)) as bar:
        for number, start in enumerate(range(0, count, COURSE_CHUNK)):
            chunks.append(kept(path.with_name(f"{path.stem}-{number:04d}.safetensors"), partial(chunk, start)))
            bar.advance()
    return {name: torch.cat([each[name] for each in chunks]) for name in chunks[0]}


def kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in a file, which are made where it isn't there."""
    if not path.exists():
        with replacing(path) as beside:
            save_file(make(), beside)
    return load_file(path)


def noise_of(place: int, channels: int, side: int, seed: int) -> Tensor:
    """(channels, side, side): what the course at a place began with."""
    return torch.randn(channels, side, side, generator=torch.Generator().manual_seed(seed * 1_000_003 + place))


def _ends(dev: Velocity, t5: Tensor, clip: Tensor, noise: Tensor, recipe: StepsRecipe, fabric: Fabric) -> Tensor:
    by = torch.full((len(noise),), recipe.guidance, device=noise.device)
    with torch.no_grad(), fabric.autocast():
        text = dev.encode(t5, clip)
        return follow(lambda x, t: dev(x, t, text, by), noise, dev_schedule(recipe.course_steps, noise))


class Courses(Dataset[tuple[Tensor, ...]]):
    """The k-th course of a run: its end, T5's and CLIP's ids, its noise.

    Args:
        seed: of the noise.
        endless: each epoch in a new order; else once, as they are.
    """

    def __init__(self, courses: Course, seed: int, *, endless: bool) -> None:
        self.courses = courses
        self.seed = seed
        self.endless = endless

    def __len__(self) -> int:
        return len(self.courses["end"])

    def __getitem__(self, k: int) -> tuple[Tensor, ...]:
        epoch, place = divmod(k, len(self))
        if self.endless:
            place = int(shuffled(len(self), self.seed, epoch)[place])
        end = self.courses["end"][place].float()
        channels, side, _ = end.shape
        noise = noise_of(place, channels, side, self.seed)
        return end, self.courses["t5"][place].long(), self.courses["clip"][place].long(), noise
