"""A head as a block of diffusers' modular pipelines."""

from typing import Any

import torch
from diffusers.modular_pipelines import (
    ComponentSpec,
    InputParam,
    ModularPipelineBlocks,
    OutputParam,
    PipelineState,
    SequentialPipelineBlocks,
)

from undistill.heads import Head
from undistill.integrations.diffusers import Enhance


class EnhanceStep(ModularPipelineBlocks):  # type: ignore[misc]  # diffusers is not typed for strict eyes
    """Enhances what `decode` has made: PIL images, arrays or tensors; latents stay what they are.

    Its component `head` is loaded with the others by `load_components`, or set by `update_components(head=...)`.

    Args:
        head: what `Head.from_pretrained` takes, for `load_components`; None: it is set later.
    """

    def __init__(self, head: str | None = None) -> None:
        super().__init__()
        self._head = head

    @property
    def description(self) -> str:
        """What diffusers says of the block."""
        return "Makes the student's images look like its teacher's, by one of undistill's heads"

    @property
    def expected_components(self) -> list[Any]:
        """The head."""
        return [ComponentSpec("head", Head, pretrained_model_name_or_path=self._head)]

    @property
    def inputs(self) -> list[Any]:
        """Beside what `decode` leaves there, how strongly."""
        return [
            InputParam("images", required=True, description="What decode has made."),
            InputParam("output_type", default="pil"),
            InputParam("enhance_strength", default=1.0, type_hint=float, description="0: unchanged. 1: the head's."),
        ]

    @property
    def intermediate_outputs(self) -> list[Any]:
        """In the place of decode's."""
        return [OutputParam("images", description="Enhanced, of the type that was asked for.")]

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        """Run it in a pipeline.

        Raises:
            ValueError: no head was loaded, or enhance_strength is not in [0, 1].
        """
        block = self.get_block_state(state)
        if block.output_type != "latent":
            if components.head is None:
                raise ValueError("there is no head: pipeline.update_components(head=Head.from_pretrained('flux1'))")
            # `pipeline.to(torch.bfloat16)` means every component; what a head adds to must keep its precision.
            enhance = Enhance(components.head.float(), components._execution_device, block.enhance_strength)
            block.images = enhance(block.images)
            self.set_block_state(state, block)
        return components, state


def with_head(blocks: SequentialPipelineBlocks, head: str | None = None) -> SequentialPipelineBlocks:
    """Blocks with an `EnhanceStep` after their `decode`.

    Args:
        blocks: any with a block `decode`, as the auto blocks of FLUX, FLUX.2, Z-Image, SDXL and Qwen-Image; it is
            changed.
        head: see `EnhanceStep`.

    Raises:
        ValueError: no block `decode`.

    Example:
        pipeline = with_head(FluxAutoBlocks(), "flux1").init_pipeline("black-forest-labs/FLUX.1-schnell")
        pipeline.load_components(dtype=torch.bfloat16)
        pipeline(prompt="A professional portrait of Ada Okafor", num_inference_steps=4, output="images")
    """
    names = list(blocks.sub_blocks)
    if "decode" not in names:
        raise ValueError(f"{type(blocks).__name__} has no block decode: its blocks are {', '.join(names) or 'none'}")
    blocks.sub_blocks.insert("enhance", EnhanceStep(head), names.index("decode") + 1)
    return blocks
