"""Runs the two sides of a pair."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property, wraps
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from undistill.device import pick_device
from undistill.errors import Failure, UsageError
from undistill.images import Pixels
from undistill.pairs.load import DENOISERS, Place, add_lora, find, load, quiet
from undistill.pairs.spec import PairSpec, Side, read_spec


class Generator:
    """The student and the teacher of a pair: any that diffusers' AutoPipelines know.

    The student is loaded at once, the teacher when it is first asked: who wants student images alone doesn't need its
    weights. What both sides take from the same place is held once.

    Args:
        pair: a pair spec, or what `read_spec` takes.
        device: where to run; None: a GPU if there is one, else the CPU.

    Raises:
        UsageError: no such pair or device.
        Failure: its weights can't be had.

    Example:
        generator = Generator("tiny")
        student = generator.student(["A professional portrait of Ada Okafor"], [1])
        teacher = generator.teacher(["A professional portrait of Ada Okafor"], [1], student)
    """

    def __init__(self, pair: PairSpec | str | Path, device: str | torch.device | None = None) -> None:
        self.spec = pair if isinstance(pair, PairSpec) else read_spec(pair)
        self.device = pick_device(device)
        self._student = self._load("text-to-image", self.spec.student, _rest(self.spec.student, self.spec.teacher), {})

    @cached_property
    def _teacher(self) -> Any:
        student, teacher = self.spec.student, self.spec.teacher
        rest = _rest(teacher, student)
        shared: dict[str, Any] = {}
        if rest == _rest(student, teacher):
            shared = dict(self._student.components)
            del shared["scheduler"]  # it counts the steps of one side
            if (_model(student), student.lora) != (_model(teacher), teacher.lora):
                shared = {name: part for name, part in shared.items() if name not in DENOISERS}
        return self._load("image-to-image", teacher, rest, shared)

    def student(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        """The student's images of one batch, (N, size, size, 3) uint8.

        Args:
            prompts: N of them.
            seeds: one an image. An image depends on its prompt and its seed, not on the rest of the batch, but for the
                rounding of sums, which may differ with N.

        Raises:
            Failure: the device has too little memory for the batch, or the dtype too little range for the model.
        """
        return self._run(self._student, self.spec.student, prompts, seeds, {})

    def teacher(self, prompts: Sequence[str], seeds: Sequence[int], images: Pixels) -> Pixels:
        """What the teacher makes of the student's images, (N, size, size, 3) uint8.

        Args:
            images: (N, size, size, 3) uint8, the student's.

        Raises:
            Failure: as for the student, or the teacher's weights can't be had.
        """
        expected = (len(prompts), self.spec.size, self.spec.size, 3)
        if images.shape != expected or images.dtype != np.uint8:
            raise ValueError(f"images of shape {images.shape} and type {images.dtype}: take {expected} and uint8")
        start = {"image": [Image.fromarray(image) for image in images], "strength": self.spec.teacher.strength}
        return self._run(self._teacher, self.spec.teacher, prompts, seeds, start)

    def _load(
        self, mode: Literal["text-to-image", "image-to-image"], side: Side, rest: Place, shared: dict[str, Any]
    ) -> Any:
        pipeline = load(mode, _model(side), rest, getattr(torch, self.spec.dtype), shared)
        if side.max_sequence_length is not None and "max_sequence_length" not in _options(pipeline):
            raise UsageError(f"{type(pipeline).__name__} takes no max_sequence_length: leave it out of the pair spec")
        if side.lora is not None and not any(name in shared for name in DENOISERS):
            add_lora(pipeline, side.lora)
        pipeline.set_progress_bar_config(disable=True)
        for name, part in pipeline.components.items():
            if name.startswith("text_encoder") and part is not None and name not in shared:
                _remember(part)
        try:
            with quiet():
                return pipeline.to(self.device)
        except torch.OutOfMemoryError as error:
            raise Failure(f"{self.device} has too little memory for the pair {self.spec.name}") from error

    def _run(
        self, pipeline: Any, side: Side, prompts: Sequence[str], seeds: Sequence[int], start: dict[str, Any]
    ) -> Pixels:
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts, but {len(seeds)} seeds")
        # Some pipelines take the size from the image alone.
        options: dict[str, Any] = {name: self.spec.size for name in ("height", "width") if name in _options(pipeline)}
        if side.max_sequence_length is not None:
            options["max_sequence_length"] = side.max_sequence_length
        try:
            with quiet():
                images = pipeline(
                    prompt=list(prompts),
                    num_inference_steps=side.steps,
                    guidance_scale=side.guidance,
                    # On the CPU, so that a seed means the same noise on every device.
                    generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                    output_type="np",
                    **options,
                    **start,
                ).images
        except torch.OutOfMemoryError as error:
            raise Failure(
                f"{self.device} has too little memory for a batch of {len(prompts)}: take a smaller one"
            ) from error
        if not np.isfinite(images).all():
            raise Failure(f"{side.model} leaves the range of {self.spec.dtype}: take bfloat16 or float32")
        return np.asarray((images * 255).round().astype(np.uint8))


def _options(pipeline: Any) -> frozenset[str]:
    return frozenset(signature(pipeline.__call__).parameters)


def _model(side: Side) -> Place:
    return find(side.model, side.revision)


def _rest(side: Side, other: Side) -> Place:
    """Where a side's other components come from; the other side's model is meant at the other side's revision."""
    if side.rest is None:
        return _model(side)
    return find(side.rest, other.revision if side.rest == other.model else None)


def _remember(encoder: nn.Module) -> None:
    """Let a text encoder keep its last answers: the teacher asks what the student asked before.

    Here, and not where pipelines take ready embeddings, since every kind of pipeline takes others.
    """
    encode = encoder.forward
    answers: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    @wraps(encode)
    def forward(*arguments: Any, **options: Any) -> Any:
        question = (*map(_key, arguments), *((name, _key(options[name])) for name in sorted(options)))
        if question not in answers:
            answers[question] = encode(*arguments, **options)
            if len(answers) > 2:  # the prompts, and the empty prompts of classifier-free guidance
                answers.popitem(last=False)
        return answers[question]

    encoder.forward = forward


def _key(value: Any) -> Any:
    return (tuple(value.shape), value.cpu().numpy().tobytes()) if isinstance(value, Tensor) else repr(value)
