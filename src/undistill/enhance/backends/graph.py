"""A head as an ONNX graph: traced once, and from that made whole or for tiles.

Where a layer needs the whole image, the graph that is traced has a node that says so. `whole` pools what the graph is
given. `tiled` makes two inputs of the node, what the layer has of the whole image, and an output, what it would pool:
so a tile is run with the statistics of the image that it is part of, and these are gathered layer by layer (`before`),
as `undistill.heads.pooling.known_statistics` does it with torch.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from undistill.base.errors import UsageError, first_line
from undistill.enhance.backends.functions import functions
from undistill.heads import GridHead, Head
from undistill.heads.grid import CELL
from undistill.heads.pooling import Second
from undistill.heads.tracing import DOMAIN, Traced, tracing
from undistill.metrics.cache import keep, kept, key_of, room

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET = 20
FORMAT = 1
"""Of the graphs that are kept: changes when the same head gives another."""
_POOLS: dict[str, Second] = {
    "InstanceNormalization": "variance",
    "MeanVariance": "variance",
    "MeanMaximum": "maximum",
}


@dataclass(frozen=True)
class Pool:
    """A layer that pools, in the graph for tiles: names of its output and its two inputs."""

    second: Second
    output: str
    mean: str
    extra: str
    channels: int


class _Body(nn.Module):
    """What is traced: a head without the checks of its input, which is padded as it asks."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, x: Tensor, whole: Tensor | None = None, thumbnail: Tensor | None = None, place: Tensor | None = None
    ) -> Tensor:
        with tracing(Traced(whole, thumbnail, place)):
            y = self.head.body(x)
        return x + y if self.head.residual else y


def traced_graph(head: Head, name: str) -> "ModelProto":
    """The graph of a head, from the cache where it is known: tracing takes seconds.

    Args:
        name: of the backend, for messages.

    Raises:
        UsageError: onnx or onnxscript is not installed, or ONNX has no operator for a layer.
    """
    try:
        import onnx
        import onnxscript
    except ImportError as error:
        raise UsageError(f"backend {name} needs {error.name}: pip install 'undistill[{name}]'") from error
    with room(key_of("graph", FORMAT, head_key(head), torch.__version__, onnxscript.__version__)) as folder:
        file = folder / "graph.kept"
        known = kept(file)
        if known is not None:
            return onnx.load_from_string(known)
        model = _trace(head, name)
        with suppress(OSError):  # a full disk, or another process at the same
            keep(file, model.SerializeToString())
    return model


def head_key(head: Head) -> str:
    """Tells heads in memory apart: by architecture, arguments and weights."""
    key = sha256(f"{type(head).__qualname__} {sorted(head.config.items())}".encode())
    for tensor in head.state_dict().values():
        key.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return key.hexdigest()


def _trace(head: Head, name: str) -> "ModelProto":
    device = next(head.parameters()).device
    x, dims = _example(head)
    inputs, shapes = [x], [dims]
    dim: Any = torch.export.Dim  # can be multiplied, which its types don't say
    if isinstance(head, GridHead):
        auto = dim.DYNAMIC
        cells = {axis: CELL * dim(f"cells_{axis}", min=1, max=2**16) for axis in (2, 3)}
        inputs += [torch.rand(1, 3, 56, 40), torch.rand(1, 3, 12 * CELL, 10 * CELL), torch.tensor([0, 0, 70, 50.0])]
        shapes += [{2: auto, 3: auto}, cells, {}]
    names = ("x", "whole", "thumbnail", "place")[: len(inputs)]
    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(
                _Body(head), tuple(each.to(device) for each in inputs), dynamic_shapes=tuple(shapes), strict=False
            )
            made = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=names, output_names=["y"], verbose=False
            )
        except Exception as error:  # torch's, of many kinds
            raise UsageError(
                f"backend {name} can't run this {type(head).__name__}: {_layer(error)}; --backend torch can"
            ) from error
    assert made is not None
    return made.model_proto


def _example(head: Head) -> tuple[Tensor, dict[int, Any]]:
    """A picture, and which sides of it vary."""
    dim: Any = torch.export.Dim
    step = head.multiple
    least = -(-head.smallest // step)
    if step == 1:
        return torch.rand(1, 3, least + 70, least + 50), {2: dim.DYNAMIC, 3: dim.DYNAMIC}
    sides = {axis: step * dim(f"steps_{axis}", min=least, max=2**16) for axis in (2, 3)}
    return torch.rand(1, 3, step * (least + 3), step * (least + 2)), sides


def _layer(error: BaseException) -> str:
    """The innermost reason, which names the operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter speaks of what is its own: that torchvision is not there, and of its trees."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _copy(model: "ModelProto") -> "ModelProto":
    made = type(model)()
    made.CopyFrom(model)
    return made


def whole(model: "ModelProto") -> "ModelProto":
    """The graph that runs an image in one piece."""
    import onnx
    from onnx.inliner import inline_local_functions

    made = _copy(model)
    if any(node.domain == DOMAIN for node in made.graph.node):
        made.functions.extend(functions(OPSET))
        if not any(opset.domain == DOMAIN for opset in made.opset_import):
            made.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
        made = inline_local_functions(made)
        del made.functions[:]
    for opset in [each for each in made.opset_import if each.domain not in ("", "ai.onnx")]:
        made.opset_import.remove(opset)
    del made.graph.value_info[:]  # of the sizes that were traced, some by names that are no more
    return made


def one_input(model: "ModelProto", head: Head) -> "ModelProto":
    """The graph that takes an image alone: what a `GridHead` looks at, it makes of it."""
    import onnx

    if not isinstance(head, GridHead):
        return whole(model)
    made = _copy(model)
    nodes = [
        onnx.helper.make_node(
            "Look", ["x"], ["whole", "thumbnail", "place"], domain=DOMAIN, trained_at=head.trained_at or 0
        ),
        *made.graph.node,
    ]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    del made.graph.input[1:]
    return whole(made)


def tiled(model: "ModelProto") -> tuple["ModelProto", list[Pool]]:
    """The graph that runs a tile of an image, and its layers that pool, each behind those that it depends on."""
    import onnx

    made = _copy(model)
    pools: list[Pool] = []
    nodes: list[NodeProto] = []
    infos = {info.name: info for info in made.graph.value_info}
    for node in model.graph.node:
        second = _POOLS.get(node.op_type)
        if second is None:
            nodes.append(node)
            continue
        number = len(pools)
        mean, extra = f"whole.mean.{number}", f"whole.{second}.{number}"  # torch names its values without points
        channels = infos[node.input[0]].type.tensor_type.shape.dim[1].dim_value
        pools.append(Pool(second, node.input[0], mean, extra, channels))
        if node.op_type == "InstanceNormalization":
            nodes += _normalisation(node, mean, extra, number)
        else:
            nodes += [
                onnx.helper.make_node("Identity", [one], [other])
                for one, other in zip((mean, extra), node.output, strict=True)
            ]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    for pool in pools:
        made.graph.output.append(infos[pool.output])
        for name in (pool.mean, pool.extra):
            shape = [1, pool.channels, 1, 1]
            made.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return made, pools


def _normalisation(node: "NodeProto", mean: str, variance: str, number: int) -> "list[NodeProto]":
    from onnx import helper

    (epsilon,) = (attribute.f for attribute in node.attribute if attribute.name == "epsilon")
    names = [f"norm.{number}.{step}" for step in ("epsilon", "centred", "variance", "deviation")]
    return [
        helper.make_node("Constant", [], [names[0]], value_float=epsilon),
        helper.make_node("Sub", [node.input[0], mean], [names[1]]),
        helper.make_node("Add", [variance, names[0]], [names[2]]),
        helper.make_node("Sqrt", [names[2]], [names[3]]),
        helper.make_node("Div", [names[1], names[3]], node.output),
    ]


def part(model: "ModelProto", output: str) -> "ModelProto":
    """What of the graph for tiles leads to an output, with the inputs that it needs, and no other."""
    from onnx.utils import Extractor

    needed = _needed(model, output)
    inputs = [each.name for each in model.graph.input if each.name in needed]
    return whole(Extractor(model).extract_model(inputs, [output]))


def _needed(model: "ModelProto", output: str) -> set[str]:
    """Names of all values that an output depends on."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    needed, left = {output}, [output]
    while left:
        node = made_by.get(left.pop())
        for name in node.input if node is not None else ():
            if name not in needed:
                needed.add(name)
                left.append(name)
    return needed


def input_names(model: "ModelProto") -> Sequence[str]:
    """Of what the graph must be given."""
    return [each.name for each in model.graph.input]
