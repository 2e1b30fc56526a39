"""Runs the two sides of a pair."""

from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property, wraps
from inspect import signature
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image

from undistill.base.device import pick_device
from undistill.base.errors import Failure, UsageError
from undistill.base.libraries import quiet
from undistill.images import Pixels
from undistill.pairs.load import (
    DENOISERS,
    Weights,
    WeightsRef,
    add_lora,
    load_pipeline,
    lora_encoders,
    model_ref,
    rest_ref,
)
from undistill.pairs.place import NetworkPlacement, Offload, weight_bytes, working_bytes
from undistill.pairs.spec import PairSpec, SideSpec, read_spec
from undistill.pairs.start import begin_with, keep_latents

_LESS = " (--offload group needs least)"


class Generator:
    """The student and the teacher of a pair: any that diffusers' AutoPipelines know.

    The student is loaded at once, the teacher when it is first asked: who wants student images alone doesn't need its
    weights. What both sides take from the same place is held once.

    Args:
        pair: a pair spec, or what `read_spec` takes.
        device: where to run; None: a GPU if there is one, else the CPU.
        offload: what waits on the CPU until it is asked; None: as little as the GPU's free memory lets stay there.
        student: a diffusers pipeline, text to image, that draws in place of the pair's student, asked as the pair says.
            It stays where it is, and shares nothing with the teacher.

    Raises:
        UsageError: no such pair or device.
        Failure: its weights can't be had.

    Example:
        generator = Generator("tiny")
        student = generator.student(["A professional portrait of Ada Okafor"], [1])
        teacher = generator.teacher(["A professional portrait of Ada Okafor"], [1], student)
    """

    def __init__(
        self,
        pair: PairSpec | str | Path,
        device: str | torch.device | None = None,
        offload: Offload | None = None,
        student: Any = None,
    ) -> None:
        self.spec = pair if isinstance(pair, PairSpec) else read_spec(pair)
        self.device = pick_device(device)
        self._networks = NetworkPlacement(self.device, offload, working_bytes(self.spec.size))
        self._answers: dict[str, Any] = {}
        self._latents: dict[tuple[Any, ...], Any] = {}  # of the student's last batch
        self._loaded = student is not None
        self._student = (
            student
            if self._loaded
            else self._load("text-to-image", self.spec.student, rest_ref(self.spec.student, self.spec.teacher), {})
        )

    @cached_property
    def _teacher(self) -> Any:
        student, teacher = self.spec.student, self.spec.teacher
        rest = rest_ref(teacher, student)
        shared: dict[str, Any] = {}
        if rest == rest_ref(student, teacher) and not self._loaded:
            shared = dict(self._student.components)
            del shared["scheduler"]  # it counts the steps of one side
            if _denoiser_key(student) != _denoiser_key(teacher):
                own = {*DENOISERS, *_changed(student), *_changed(teacher)}
                shared = {name: part for name, part in shared.items() if name not in own}
        for name in DENOISERS:
            if name in self._student.components and name not in shared:
                self._networks.make_room(
                    weight_bytes(self._student.components[name])
                )  # the teacher's is about as large
        mode: Literal["text-to-image", "image-to-image"] = (
            "text-to-image" if teacher.start == "text" else "image-to-image"
        )
        return self._load(mode, teacher, rest, shared)

    @property
    def student_parts(self) -> dict[str, Any]:
        """The student's components by name: networks, scheduler, tokenizers."""
        return dict(self._student.components)

    def at_size(self, size: int) -> Self:
        """A generator of images of another size, px, with the networks of this one: those that are loaded by now."""
        other = copy(self)
        other.spec = self.spec.model_copy(update={"size": size})
        return other

    def student(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        """The student's images of one batch, (N, size, size, 3) uint8.

        Args:
            prompts: N of them.
            seeds: one an image. An image depends on its prompt and its seed, not on the rest of the batch, but for the
                rounding of sums, which may differ with N.

        Raises:
            Failure: the device has too little memory for the batch, or the dtype too little range for the model.
        """
        return self._draw_student(prompts, seeds)[0]

    def teacher(self, prompts: Sequence[str], seeds: Sequence[int], images: Pixels) -> Pixels:
        """What the teacher makes of the student's images, (N, size, size, 3) uint8.

        Args:
            images: (N, size, size, 3) uint8, the student's. A pipeline that takes no `strength` begins with the
                student's latents instead, of these prompts and seeds: those of its last batch, or they are drawn again.

        Raises:
            Failure: as for the student, or the teacher's weights can't be had.
        """
        expected = (len(prompts), self.spec.size, self.spec.size, 3)
        if images.shape != expected or images.dtype != np.uint8:
            raise ValueError(f"images of shape {images.shape} and type {images.dtype}: take {expected} and uint8")
        teacher, generators = self.spec.teacher, _generators(seeds)
        if teacher.start == "text":
            start: dict[str, Any] = {}
        elif "strength" in _call_parameters(self._teacher):
            start = {"image": [Image.fromarray(image) for image in images], "strength": teacher.strength}
        else:
            latents = self._latents.get(self._batch(prompts, seeds))
            if latents is None:
                latents = self._draw_student(prompts, seeds)[1]
            start = begin_with(self._teacher, latents, teacher.steps, teacher.strength, generators)
        return self._run(self._teacher, teacher, prompts, generators, start)

    def _draw_student(self, prompts: Sequence[str], seeds: Sequence[int]) -> tuple[Pixels, Any]:
        """The student's images, and the latents that they were decoded from."""
        kept: list[Any] = []
        start = {}
        if "callback_on_step_end" in _call_parameters(self._student):
            start = {"callback_on_step_end": keep_latents(kept)}
        images = self._run(self._student, self.spec.student, prompts, _generators(seeds), start)
        latents = kept[0] if kept else None
        self._latents.clear()
        self._latents[self._batch(prompts, seeds)] = latents
        return images, latents

    def _batch(self, prompts: Sequence[str], seeds: Sequence[int]) -> tuple[Any, ...]:
        return self.spec.size, tuple(prompts), tuple(seeds)

    def _load(
        self, mode: Literal["text-to-image", "image-to-image"], side: SideSpec, rest: WeightsRef, shared: dict[str, Any]
    ) -> Any:
        weights = Weights(getattr(torch, self.spec.dtype), self.spec.quantised, side.gguf)
        pipeline = load_pipeline(mode, model_ref(side), rest, weights, shared)
        if side.max_sequence_length is not None and "max_sequence_length" not in _call_parameters(pipeline):
            raise UsageError(f"{type(pipeline).__name__} takes no max_sequence_length: leave it out of the pair spec")
        if side.lora is not None and not any(name in shared for name in DENOISERS):
            add_lora(pipeline, side.lora)
        if side.scheduler is not None:
            pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **side.scheduler)
        pipeline.set_progress_bar_config(disable=True)
        if self.spec.tiling:
            pipeline.vae.enable_tiling()
        encoders = [part for name, part in pipeline.components.items() if name.startswith("text_encoder")]
        _remember(pipeline, encoders, self._answers, lambda: self._networks.leave(encoders))
        try:
            with quiet():
                self._networks.add(pipeline)
        except torch.OutOfMemoryError as error:
            raise Failure(f"{self.device} has too little memory for the pair {self.spec.name}{_LESS}") from error
        return pipeline

    def _run(
        self,
        pipeline: Any,
        side: SideSpec,
        prompts: Sequence[str],
        generators: list[torch.Generator],
        start: dict[str, Any],
    ) -> Pixels:
        if len(prompts) != len(generators):
            raise ValueError(f"{len(prompts)} prompts, but {len(generators)} seeds")
        # Some pipelines take the size from the image alone.
        options: dict[str, Any] = {
            name: self.spec.size for name in ("height", "width") if name in _call_parameters(pipeline)
        }
        if side.max_sequence_length is not None:
            options["max_sequence_length"] = side.max_sequence_length
        try:
            with quiet():
                images = pipeline(
                    prompt=list(prompts),
                    num_inference_steps=side.steps,
                    generator=generators,
                    output_type="np",
                    **_guidance(pipeline, side.guidance, len(prompts)),
                    **options,
                    **start,
                ).images
        except torch.OutOfMemoryError as error:
            raise Failure(
                f"{self.device} has too little memory for a batch of {len(prompts)}: take a smaller one{_LESS}"
            ) from error
        finally:
            self._networks.leave(pipeline.components.values())
        if not np.isfinite(images).all():
            raise Failure(f"{side.model} leaves the range of {self.spec.dtype}: take bfloat16 or float32")
        return np.asarray((images * 255).round().astype(np.uint8))


def _call_parameters(pipeline: Any) -> frozenset[str]:
    return frozenset(signature(pipeline.__call__).parameters)


def _generators(seeds: Sequence[int]) -> list[torch.Generator]:
    # On the CPU, so that a seed means the same noise on every device.
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def _guidance(pipeline: Any, scale: float, count: int) -> dict[str, Any]:
    """Guidance as the pipeline calls it."""
    asked = signature(pipeline.__call__).parameters
    if "true_cfg_scale" not in asked or asked["guidance_scale"].default is not None:
        return {"guidance_scale": scale}
    # Qwen-Image's `guidance_scale` is for networks that were distilled to take it, of which there is none.
    return {"true_cfg_scale": scale, **({"negative_prompt": [" "] * count} if scale > 1 else {})}


def _denoiser_key(side: SideSpec) -> tuple[Any, ...]:
    return model_ref(side), side.gguf, side.lora


def _changed(side: SideSpec) -> frozenset[str]:
    return frozenset() if side.lora is None else lora_encoders(side.lora)


def _remember(pipeline: Any, encoders: list[Any], answers: dict[str, Any], asked: Callable[[], None]) -> None:
    """Let a pipeline keep its last prompts' embeddings: the teacher asks what the student asked before.

    Args:
        encoders: the text encoders.
        answers: where they are kept, of all pipelines.
        asked: is called when the text encoders have been asked.
    """
    if not hasattr(pipeline, "encode_prompt"):
        return
    # Not by prompt_embeds=..., which pipelines take instead: each family names and orders its embeddings otherwise, and
    # offloads its encoders at another place. The method is replaced on our own pipeline alone, nobody else holds it.
    encode = pipeline.encode_prompt

    @wraps(encode)
    def encode_prompt(*arguments: Any, **options: Any) -> Any:
        question = repr(([id(encoder) for encoder in encoders], arguments, sorted(options.items())))
        if question not in answers:
            answers.clear()
            answers[question] = encode(*arguments, **options)
            asked()
        return answers[question]

    pipeline.encode_prompt = encode_prompt
