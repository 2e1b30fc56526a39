"""A head behind any of diffusers' classic pipelines: `undistill.wrap`."""

from inspect import signature
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from undistill.base.errors import UsageError
from undistill.enhance import Enhancer
from undistill.heads import Head

Made = TypeVar("Made", list[Image.Image], "np.ndarray[Any, Any]", Tensor)


class Enhance:
    """What a pipeline's images go through.

    Args:
        head: a `Head`, or what `Head.from_pretrained` takes.
        device: where it runs; None: a GPU if there is one, else the CPU.
        strength: 0 (the pipeline's images as they are) to 1 (the head's); it may be set between two calls.

    Raises:
        UsageError: no such head.
    """

    def __init__(
        self, head: Head | str | Path, device: str | torch.device | None = None, strength: float = 1.0
    ) -> None:
        self.strength = strength
        self._enhancer = Enhancer(head, device)

    @property
    def head(self) -> Head:
        """The network."""
        return self._enhancer.head

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._enhancer.device

    def to(self, device: str | torch.device) -> Self:
        """Move the head; its precision is chosen anew for where it runs then."""
        device = torch.device(device)
        if device.type != self.device.type or device.index not in (None, self.device.index):
            self._enhancer = Enhancer(self.head, device)
        return self

    def __call__(self, images: Made) -> Made:
        """Enhanced images of the same kind as diffusers gives.

        Args:
            images: PIL images, sizes may differ; or an array (N, H, W, 3), or a tensor (N, 3, H, W), in [0, 1].

        Raises:
            ValueError: they are none of these, or the strength is not in [0, 1].
        """
        if isinstance(images, list):
            return [self._enhancer(image, self.strength) for image in images]
        return self._enhancer(images, self.strength)


class WrappedPipeline:
    """A diffusers pipeline whose images are enhanced; see `wrap`. Whatever else it is asked, the pipeline answers."""

    pipeline: Any
    """The pipeline itself."""
    enhance: Enhance
    """`enhance.strength` may be set between two calls."""

    def __init__(self, pipeline: Any, enhance: Enhance) -> None:
        vars(self).update(pipeline=pipeline, enhance=enhance)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """The pipeline's call and its answer, but for the images; latents stay what they are."""
        made = self.pipeline(*arguments, **options)
        call = signature(self.pipeline.__call__)
        asked = call.bind_partial(*arguments, **options)
        asked.apply_defaults()
        if asked.arguments["output_type"] == "latent":
            return made
        self.enhance.to(device_of(self.pipeline))
        if isinstance(made, tuple):  # return_dict=False
            return (self.enhance(made[0]), *made[1:])
        made.images = self.enhance(made.images)
        return made

    def to(self, *arguments: Any, **options: Any) -> Self:
        """Move the pipeline, as its own `to` does, and the head with it. A dtype is the pipeline's alone."""
        self.pipeline.to(*arguments, **options)
        self.enhance.to(device_of(self.pipeline))
        return self

    def __getattr__(self, name: str) -> Any:
        if name in WrappedPipeline.__annotations__:  # not there yet, while it is copied
            raise AttributeError(name)
        return getattr(self.pipeline, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in WrappedPipeline.__annotations__:
            vars(self)[name] = value
        else:  # `pipe.scheduler = ...` is meant for the pipeline
            setattr(self.pipeline, name, value)


def wrap(pipe: Any, head: Head | str | Path, strength: float = 1.0) -> WrappedPipeline:
    """A diffusers pipeline with a head behind it: the same call, and images of the same type.

    Args:
        pipe: a loaded pipeline that makes images, text to image or image to image; it is not changed. Where it runs,
            the head runs too.
        head: a `Head`, or what `Head.from_pretrained` takes.
        strength: 0 (the pipeline's own images) to 1 (the head's); later `pipe.enhance.strength`.

    Raises:
        UsageError: no such head, or a pipeline that makes no images.

    Example:
        pipe = undistill.wrap(FluxPipeline.from_pretrained("black-forest-labs/FLUX.1-schnell"), head="flux1")
        pipe("A professional portrait of Ada Okafor", num_inference_steps=4).images[0].save("ada.png")
    """
    asked = signature(pipe.__call__).parameters if callable(pipe) else {}
    if "output_type" not in asked or "num_frames" in asked:
        raise UsageError(
            f"{type(pipe).__name__} can't be wrapped: take a diffusers pipeline that makes images (modular ones take "
            "undistill.integrations.modular.EnhanceStep)"
        )
    return WrappedPipeline(pipe, Enhance(head, device_of(pipe), strength))


def device_of(pipe: Any) -> torch.device:
    """Where a pipeline runs, which is not where it waits if it is offloaded."""
    device: torch.device = pipe._execution_device if hasattr(pipe, "_execution_device") else pipe.device
    return device
