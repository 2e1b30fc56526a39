"""The nodes. They say what undistill takes, hand it over, and nothing more."""

from collections.abc import Iterable, Iterator
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import ComfyExtension, io, ui
from torch import Tensor

from undistill.enhance import Enhancer

from . import heads

CATEGORY = "undistill"
HeadType = io.Custom("UNDISTILL_HEAD")
NONE = "(none)"
OWN = "(the pair's own)"


class LoadHead(io.ComfyNode):
    """A head, on ComfyUI's device when it is used."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UndistillLoadHead",
            display_name="Load Head (undistill)",
            category=CATEGORY,
            description="A head: the small network that makes a distilled model's portraits look like its teacher's.",
            inputs=[
                io.Combo.Input(
                    "head",
                    options=heads.names(),
                    default="flux1",
                    tooltip="A folder of models/undistill, or a head that comes with undistill.",
                ),
                io.String.Input(
                    "hub_id",
                    default="",
                    optional=True,
                    tooltip="owner/name of a head on the Hugging Face hub, downloaded; in place of the one above.",
                ),
            ],
            outputs=[HeadType.Output(display_name="head")],
        )

    @classmethod
    def execute(cls, head: str, hub_id: str = "") -> io.NodeOutput:
        return io.NodeOutput(heads.managed([heads.load(hub_id.strip() or head)]))


class EnhancePortrait(io.ComfyNode):
    """The head on images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UndistillEnhancePortrait",
            display_name="Enhance Portrait (undistill)",
            category=CATEGORY,
            description="Gives portraits back what distillation took. Any size; alpha stays as it is.",
            inputs=[
                io.Image.Input("image", tooltip="Portraits, one or a batch."),
                HeadType.Input("head"),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.0, step=0.05, tooltip="0: unchanged. 1: the head's image."
                ),
                io.Combo.Input(
                    "where",
                    options=["all", "face"],
                    default="all",
                    tooltip="face: faces alone, with hair line and some neck; it needs pip install 'undistill[faces]'.",
                ),
                io.Float.Input(
                    "feather",
                    default=0.2,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="With face: how far beyond it its mask may end, in heights of the face.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="Where to enhance, in place of the choice above."),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        head: Any,
        strength: float = 1.0,
        where: str = "all",
        feather: float = 0.2,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        masks = [None] * len(image) if mask is None else _fitted(mask, image)
        heads.ready(head, working=_working(image))
        enhancer = Enhancer(head.model.networks[0], head.load_device)
        made = []
        for one, alone in _watched(list(zip(image, masks, strict=True))):
            colours = one[..., :3].clamp(0, 1)  # what upscalers and decoders leave may lie beyond
            enhanced = enhancer(colours, strength, where=where, feather=feather, mask=alone, channels_last=True)
            made.append(torch.cat([enhanced, one[..., 3:]], dim=-1))
        return io.NodeOutput(torch.stack(made))


class Compare(io.ComfyNode):
    """Before and after, side by side."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UndistillCompare",
            display_name="Compare (undistill)",
            category=CATEGORY,
            description="Before and after side by side, with a line between.",
            is_output_node=True,
            inputs=[
                io.Image.Input("before"),
                io.Image.Input("after"),
                io.Int.Input("line", default=4, min=0, max=64, tooltip="Width of the line between them, px."),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, before: Tensor, after: Tensor, line: int = 4) -> io.NodeOutput:
        if before.shape[:3] != after.shape[:3]:
            raise ValueError(
                f"before is {_size(before)}, after {_size(after)}: connect the image that went into Enhance Portrait"
            )
        before, after = before[..., :3], after[..., :3]
        between = torch.ones(len(before), before.shape[1], line, 3, dtype=before.dtype, device=before.device)
        beside = torch.cat([before, between, after.to(before)], dim=2)
        return io.NodeOutput(beside, ui=ui.PreviewImage(beside, cls=cls))


class StudentAndHead(io.ComfyNode):
    """A pair's student with a head behind it."""

    _loaded: tuple[str, Any, Any] | None = None

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UndistillStudentAndHead",
            display_name="Student and Head (undistill)",
            category=CATEGORY,
            description="Draws a prompt with a pair's student, as its spec says, and enhances it. Weights that are not "
            "here are downloaded; gated ones want their licence accepted first.",
            inputs=[
                io.Combo.Input(
                    "pair",
                    options=heads.specs(),
                    default="tiny",
                    tooltip="A pair that comes with undistill, or a spec (YAML) of models/undistill.",
                ),
                io.Combo.Input("head", options=[OWN, NONE, *heads.names()], default=OWN),
                io.String.Input("prompt", multiline=True, default="A professional portrait of Ada Okafor"),
                io.Int.Input("seed", default=0, min=0, max=2**63 - 1, control_after_generate=True),
            ],
            outputs=[io.Image.Output(display_name="image"), io.Image.Output(display_name="student")],
        )

    @classmethod
    def execute(cls, pair: str, head: str, prompt: str, seed: int) -> io.NodeOutput:
        generator, patcher = StudentAndHead._of(pair)
        chosen = generator.spec.head if head == OWN else None if head == NONE else head
        heads.ready(patcher)
        student = torch.from_numpy(generator.student([prompt], [seed])).float() / 255
        if chosen is None:
            return io.NodeOutput(student, student)
        (image,) = EnhancePortrait.execute(student, heads.managed([heads.load(chosen)])).args
        return io.NodeOutput(image, student)

    @staticmethod
    def _of(pair: str) -> tuple[Any, Any]:
        """The pair's generator and its networks; the last one is kept, where ComfyUI can take its memory."""
        from undistill.pairs.generator import Generator

        if StudentAndHead._loaded is None or StudentAndHead._loaded[0] != pair:
            StudentAndHead._loaded = None
            generator = Generator(heads.spec_of(pair), "cpu")
            networks = [part for part in generator.student_parts.values() if isinstance(part, torch.nn.Module)]
            StudentAndHead._loaded = (pair, generator, heads.managed(networks))
        return StudentAndHead._loaded[1:]


def _watched(items: list[Any]) -> Iterator[Any]:
    """The items, with ComfyUI's bar; its Cancel is heard between two."""
    bar = comfy.utils.ProgressBar(len(items))
    for item in items:
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield item
        bar.update(1)


def _fitted(mask: Tensor, image: Tensor) -> Iterable[Tensor]:
    """A mask for each image, as large as it."""
    height, width = image.shape[1:3]
    masks = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    if masks.shape[-2:] != (height, width):
        masks = torch.nn.functional.interpolate(masks, (height, width), mode="bilinear")
    masks = masks[:, 0].clamp(0, 1)
    if len(masks) not in (1, len(image)):
        raise ValueError(f"{len(masks)} masks for {len(image)} images: connect one, or one an image")
    return masks.expand(len(image), -1, -1)


def _working(image: Tensor) -> int:
    """Bytes that a pass over one image takes, roughly: 64 feature maps of its size, tiles at most."""
    return 64 * 4 * min(image.shape[1] * image.shape[2], 1536 * 1536)


def _size(image: Tensor) -> str:
    return f"{image.shape[0]} of {image.shape[2]} x {image.shape[1]} px"


class Undistill(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadHead, EnhancePortrait, Compare, StudentAndHead]


async def comfy_entrypoint() -> Undistill:
    """ComfyUI's way in."""
    return Undistill()
