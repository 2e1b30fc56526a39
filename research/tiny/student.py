"""tiny-schnell as tiny-dev makes it: without the embedding of guidance, and with all of its blocks or some."""

import numpy as np
import torch
from diffusers import FluxTransformer2DModel

from research.tiny.model import Velocity
from undistill.base.errors import UsageError


def without_guidance(dev: Velocity, guidance: float) -> Velocity:
    """A network that says without an embedding of guidance what this one says at `guidance`, exactly."""
    old = dev.transformer
    new = FluxTransformer2DModel.from_config({**old.config, "guidance_embeds": False})
    weights = {name: tensor for name, tensor in old.state_dict().items() if "guidance_embedder" not in name}
    embed = old.time_text_embed
    with torch.no_grad():
        at = torch.tensor([1000 * guidance], device=old.device)
        constant = embed.guidance_embedder(embed.time_proj(at))[0]
    bias = "time_text_embed.timestep_embedder.linear_2.bias"
    weights[bias] = weights[bias] + constant
    new.load_state_dict(weights)
    return _student(dev, new)


def with_blocks(network: Velocity, double: int | None, single: int | None) -> Velocity:
    """A network with so many of this one's blocks, from the first to the last, spread evenly; None: all of them.

    Few blocks know enough to begin with: BK-SDM (Kim et al. 2023) and SSD-1B were made in this way.
    """
    old = network.transformer
    kept = {
        "transformer_blocks": _evenly(len(old.transformer_blocks), double),
        "single_transformer_blocks": _evenly(len(old.single_transformer_blocks), single),
    }
    counts = {
        "num_layers": len(kept["transformer_blocks"]),
        "num_single_layers": len(kept["single_transformer_blocks"]),
    }
    new = FluxTransformer2DModel.from_config({**old.config, **counts})
    weights = {}
    for name, tensor in old.state_dict().items():
        kind, *rest = name.split(".")
        if kind not in kept:
            weights[name] = tensor
        elif int(rest[0]) in kept[kind]:
            weights[".".join([kind, str(kept[kind].index(int(rest[0]))), *rest[1:]])] = tensor
    new.load_state_dict(weights)
    return _student(network, new)


def _evenly(count: int, wanted: int | None) -> list[int]:
    if wanted is None:
        return list(range(count))
    if wanted > count:
        raise UsageError(f"the recipe keeps {wanted} blocks of {count}")
    return [round(float(place)) for place in np.linspace(0, count - 1, wanted)]


def _student(network: Velocity, transformer: FluxTransformer2DModel) -> Velocity:
    student = Velocity(transformer, network.t5, network.clip)
    student.freeze_text()
    return student.to(network.transformer.device)
