"""How a teacher begins where its pipeline takes no `strength`: with the student's latents, noised by the scheduler.

Both sides of such a pair are pipelines of one class, so the latents that the one's loop ends with have the form that
the other's works on, whatever the family packs and normalises. Nothing of a family stands here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undistill.base.errors import Failure

AtStepEnd = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]
"""diffusers' callback_on_step_end."""


def keep_latents(kept: list[Tensor]) -> AtStepEnd:
    """For the student: after its last step, `kept` holds its latents alone."""

    def at_step_end(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        kept[:] = [values["latents"]]
        return values

    return at_step_end


def begin_with(
    pipeline: Any, latents: Tensor, steps: int, strength: float, generators: list[torch.Generator]
) -> dict[str, Any]:
    """Options with which a pipeline begins with these latents at `strength`, as SDEdit does (Meng et al. 2021).

    The schedule is that of all `steps`, of which the last `steps x strength` are run, and one before them whose outcome
    is thrown away: no sooner does the pipeline let its latents be set.

    Args:
        pipeline: it takes `sigmas` and `callback_on_step_end`.
        latents: clean, in the form of the pipeline's loop.
        steps: of the whole schedule.
        strength: in (0, 1].
        generators: one an image; the pipeline's own, so the noise is another one than it began with.

    Raises:
        Failure: its scheduler is none of flow matching.
    """
    if not hasattr(pipeline.scheduler, "scale_noise"):
        raise Failure(
            f"{type(pipeline).__name__} takes no strength, and {type(pipeline.scheduler).__name__} can't noise the "
            "student's latents: say `start: text` in the pair spec's teacher, for a pair that is unpaired"
        )
    first = int(steps - steps * strength)
    if first == 0:
        return {}

    def at_step_end(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step == 0:
            now = values["latents"]
            noise = torch.stack([torch.randn(now.shape[1:], generator=generator) for generator in generators])
            timesteps = pipeline.scheduler.timesteps[1:2].expand(len(now))
            begun = pipeline.scheduler.scale_noise(latents.to(now), timesteps, noise.to(now))
            values["latents"] = begun.to(now.dtype)
        return values

    sigmas = np.linspace(1.0, 1 / steps, steps)[first - 1 :].tolist()
    return {"sigmas": sigmas, "callback_on_step_end": at_step_end}
