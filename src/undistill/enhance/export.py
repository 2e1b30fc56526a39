"""A head as a file for other programs: ONNX, or OpenVINO's own format, in less than float32 where that is asked for."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from undistill.base.errors import Failure, UsageError
from undistill.base.files import SAMPLES, replacing
from undistill.enhance.backends.graph import one_input, traced_graph
from undistill.enhance.backends.runtimes import RUNTIMES
from undistill.heads import Head
from undistill.images import list_images, read_rgb

if TYPE_CHECKING:
    from onnx import ModelProto

Format = Literal["onnx", "openvino"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
LEAST_DB: dict[str, float] = {"fp32": 60, "fp16": 60, "bf16": 45, "int8": 40}
"""How near to torch's float32 a graph must come on portraits, PSNR."""
SIDE = 512
"""Long side of the portraits, px, at most."""
MARK = "undistill"
"""Who made the file: it stands at its beginning."""


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it comes to torch's float32 on how many portraits, dB (the worst)."""

    path: Path
    precision: Precision
    psnr: float
    portraits: int


def export(
    head: Head,
    names: dict[str, str],
    out: Path,
    form: Format = "onnx",
    precision: Precision = "fp32",
    calibrate: Path | None = None,
) -> Exported:
    """Write a head as a graph of one input, `x` (1, 3, height, width) in [-1, 1], sides as its metadata say, and one
    output, `y`, the same. What it needs of the whole image it takes from `x`.

    Args:
        names: "head" and "weights", its name and its hash, for the metadata.
        precision: fp16 and bf16: of the weights, which are computed with in float32 where a runtime has no kernels.
            int8: of convolutions, with scales from portraits.
        calibrate: a folder of portraits for the scales of int8; None: those that come with the package.

    Raises:
        UsageError: a package is missing, ONNX can't run the head, or the folder holds no image.
        Failure: what it does is too far from what torch does; nothing is written.
    """
    model = graph_in(precision, head, calibrate)
    _describe(model, head, {**names, "precision": precision})
    portraits = list(portraits_for(head, SAMPLES))
    psnr = agreement(model, form, portraits, wanted(head, portraits))
    if psnr < LEAST_DB[precision]:
        raise Failure(
            f"{precision} comes no nearer to float32 than {psnr:.1f} dB on {len(portraits)} portraits, and "
            f"{LEAST_DB[precision]:g} dB are asked for: nothing is written"
        )
    if form == "onnx":
        with replacing(out) as beside:
            beside.write_bytes(model.SerializeToString())
    else:
        _write_openvino(model, out)
    return Exported(out, precision, psnr, len(portraits))


def graph_in(precision: Precision, head: Head, calibrate: Path | None = None) -> "ModelProto":
    """The head's graph of one input, in a precision; arguments and errors as `export`'s."""
    model = one_input(traced_graph(head, "onnx"), head)
    if precision in ("fp16", "bf16"):
        _store_weights(model, precision)
    return _quantised(model, portraits_for(head, calibrate or SAMPLES)) if precision == "int8" else model


def portraits_for(head: Head, folder: Path) -> Iterator[Tensor]:
    """(1, 3, H, W) in [-1, 1], the middle of each, as large as the head takes it; sides differ."""
    files = list_images(folder)
    if not files:
        raise UsageError(f"{folder}: no image inside")
    for number, file in enumerate(files):
        image = Image.fromarray(read_rgb(file))
        image.thumbnail((SIDE, SIDE))
        width = image.width - image.width * (number % 3) // 8
        sides = [length // head.multiple * head.multiple for length in (image.height, width)]
        if min(sides) < head.smallest:
            raise UsageError(f"{file}: {image.width} x {image.height} px are too few for this head")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None, :, : sides[0], : sides[1]]
        yield pixels.float() / 127.5 - 1


@torch.no_grad()
def wanted(head: Head, portraits: Sequence[Tensor]) -> list[Tensor]:
    """What torch makes of them in float32."""
    return [head(x).clamp(-1, 1) for x in portraits]


def agreement(model: "ModelProto", form: Format, portraits: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """PSNR of the portrait that differs most from what is expected, dB; 126 at most."""
    run = RUNTIMES[form](model, torch.float32)
    worst = float("inf")
    for x, y in zip(portraits, expected, strict=True):
        made = torch.from_numpy(run({"x": x.contiguous().numpy()})).clamp(-1, 1)
        error = float((made - y).square().mean())
        worst = min(worst, float(10 * np.log10(4 / max(error, 1e-12))))
    return worst


def _describe(model: "ModelProto", head: Head, names: dict[str, str]) -> None:
    """What who runs it must know, in its metadata; and shapes in words."""
    from onnx import helper

    from undistill import __version__

    model.producer_name, model.producer_version = MARK, __version__
    for value in (model.graph.input[0], model.graph.output[0]):
        shape = helper.make_tensor_value_info(value.name, 1, [1, 3, "height", "width"]).type
        value.type.CopyFrom(shape)
    helper.set_model_props(
        model,
        {
            **names,
            "descriptor": json.dumps(asdict(head.descriptor)),
            "multiple": str(head.multiple),
            "smallest": str(head.smallest),
            "range": "-1 to 1, RGB",
            "undistill": __version__,
        },
    )


def _store_weights(model: "ModelProto", precision: Precision) -> None:
    """Weights of convolutions in half as many bits, each with a cast to float32 behind it."""
    from onnx import TensorProto, helper, numpy_helper

    wanted = {node.input[1] for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name not in wanted:
            continue
        name, values = tensor.name, torch.from_numpy(numpy_helper.to_array(tensor).copy())
        if precision == "fp16":
            stored, kind = values.half().numpy().tobytes(), TensorProto.FLOAT16
        else:
            stored, kind = values.bfloat16().view(torch.int16).numpy().tobytes(), TensorProto.BFLOAT16
        tensor.CopyFrom(helper.make_tensor(f"{name}.{precision}", kind, values.shape, stored, raw=True))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _quantised(model: "ModelProto", portraits: Iterator[Tensor]) -> "ModelProto":
    """Convolutions in int8, by ONNX Runtime's quantiser, but for the first and the last: they see and make the picture.

    Weights have seven bits: without VNNI, CPUs add up two products in 16 bits, which eight would overflow.
    """
    import onnx

    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    except ImportError as error:
        raise UsageError("--precision int8 needs onnxruntime: pip install 'undistill[onnx]'") from error

    class Portraits(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def get_next(self) -> dict[str, NDArray[Any]] | None:
            x = next(portraits, None)
            return None if x is None else {"x": x.contiguous().numpy()}

    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    with TemporaryDirectory(prefix="undistill-") as folder:
        target = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            target,
            Portraits(),
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
            reduce_range=True,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(target)


def _write_openvino(model: "ModelProto", out: Path) -> None:
    """OUT.xml, and its weights in OUT.bin, which takes its place first."""
    import openvino as ov

    made = ov.Core().read_model(model.SerializeToString())
    made.set_friendly_name(MARK)
    for each in model.metadata_props:
        made.set_rt_info(each.value, [MARK, each.key])
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as folder:
        beside = Path(folder) / out.name
        ov.save_model(made, beside, compress_to_fp16=False)
        beside.with_suffix(".bin").replace(out.with_suffix(".bin"))
        beside.replace(out)
