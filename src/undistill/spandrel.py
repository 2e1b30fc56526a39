"""Heads for programs that load image models with spandrel (chaiNNer, ComfyUI's Load Upscale Model and others).

A file for spandrel is one safetensors file. Sizes are read from the shapes of its tensors; what these don't tell is in
one small tensor of integers, `undistill.flags`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from undistill.base.errors import Failure, first_line
from undistill.enhance import Enhancer
from undistill.heads import EsaGenerator, GridHead, Head, HeadError, ResnetGenerator, UNet
from undistill.heads.head import write_weights
from undistill.heads.resnet import Norm, Upsampling

FLAGS = "undistill.flags"
VERSION = 1
_KINDS: tuple[type[Head], ...] = (
    ResnetGenerator,
    EsaGenerator,
    UNet,
    GridHead,
)  # the flags' second: append, never sort
_NORMS, _UPSAMPLINGS = get_args(Norm), get_args(Upsampling)


def install() -> None:
    """Add the heads to spandrel's own registry; twice is as good as once.

    Raises:
        Failure: spandrel is not installed, or can't be imported.

    Example:
        undistill.spandrel.save(Head.from_pretrained("flux1"), Path("flux1.safetensors"))
        undistill.spandrel.install()
        model = spandrel.ModelLoader().load_from_file("flux1.safetensors")
    """
    try:
        import spandrel
    except Exception as error:  # it imports torchvision, which may be missing or not fit torch
        raise Failure(f"spandrel can't be imported: {first_line(error)} (pip install spandrel)") from error

    class UndistillHead(spandrel.Architecture[Head]):  # type: ignore[misc]  # of no known type where it isn't installed
        """All heads: the flags say which."""

        def __init__(self) -> None:
            super().__init__(id="undistill", name="undistill head", detect=lambda state: FLAGS in state)

        def load(self, state_dict: Mapping[str, Tensor]) -> Any:
            head = head_of(state_dict)
            return spandrel.ImageModelDescriptor(
                head,
                {name: tensor for name, tensor in state_dict.items() if name != FLAGS},
                architecture=self,
                purpose="Restoration",
                tags=[type(head).__name__],
                # A head adds to the image, which must keep its precision; Enhancer computes in bfloat16 where it can.
                supports_half=False,
                supports_bfloat16=False,
                scale=1,
                input_channels=3,
                output_channels=3,
                tiling=spandrel.ModelTiling.INTERNAL,
                call_fn=_enhance,
            )

    registry = spandrel.MAIN_REGISTRY
    # Before all others: some know their own by a key or two, which a head may have as well.
    others = tuple(support.architecture.id for support in registry if support.architecture.id != "undistill")
    registry.add(spandrel.ArchSupport.from_architecture(UndistillHead(), others), ignore_duplicates=True)


def save(head: Head, path: Path) -> None:
    """Write a head into one file for spandrel, with weights in float16.

    Raises:
        HeadError: a head of a kind of one's own.
    """
    if type(head) not in _KINDS:
        raise HeadError(f"spandrel's file has no room for a {type(head).__name__}: it knows the heads of undistill")
    config = head.config
    flags = [
        VERSION,
        _KINDS.index(type(head)),
        int(head.residual),
        head.trained_at or 0,
        _NORMS.index(config["norm"]) if "norm" in config else 0,
        _UPSAMPLINGS.index(config["upsampling"]) if "upsampling" in config else 0,
        config.get("bands", 0),
    ]
    write_weights(head, path, {FLAGS: torch.tensor(flags, dtype=torch.int32)})


def head_of(state: Mapping[str, Tensor]) -> Head:
    """The head that such a file describes, without its weights.

    Raises:
        HeadError: flags of another version, or tensors that are no head's.
    """
    flags = [int(flag) for flag in state[FLAGS].flatten()]
    if len(flags) != 7 or flags[0] != VERSION or not 0 <= flags[1] < len(_KINDS):
        raise HeadError(f"its {FLAGS} are {flags}, which this version of undistill does not know: update it")
    _, kind, residual, trained_at, norm, upsampling, bands = flags
    try:
        made_of = _KINDS[kind]
        if made_of is UNet:
            sizes: dict[str, Any] = {
                "width": state["last.weight"].shape[1],
                "depth": _count(state, "down.{}.layers.0.weight"),
                "residual": bool(residual),
            }
        elif made_of is GridHead:
            many, width = state["last.weight"].shape[:2]
            sizes = {"width": width, "bins": (many - bands) // 12, "bands": bands}
        else:
            sizes = {
                "width": state["layers.1.weight"].shape[0],
                "blocks": sum(name.endswith(".layers.1.weight") for name in state),
                "upsampling": _UPSAMPLINGS[upsampling],
                "norm": _NORMS[norm],
                "residual": bool(residual),
            }
        head = made_of(**sizes)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise HeadError(f"its tensors are no {_KINDS[kind].__name__}'s: {first_line(error)}") from error
    head.trained_at = trained_at or None
    return head.eval()


def _count(state: Mapping[str, Tensor], name: str) -> int:
    number = 0
    while name.format(number) in state:
        number += 1
    return number


def _enhance(head: Head, image: Tensor) -> Tensor:
    """(1, 3, H, W) in [0, 1] of any size: tiles and scale are `Enhancer`'s."""
    enhanced: Tensor = Enhancer(head, image.device)(image.clamp(0, 1))
    return enhanced
