"""What runs an ONNX graph on the CPU: ONNX Runtime, OpenVINO."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from undistill.base.errors import UsageError, first_line
from undistill.base.threads import Spare

if TYPE_CHECKING:
    from onnx import ModelProto

Run = Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]
"""A graph's first output, of its inputs by name. Several threads may call it at once."""


def onnx_runtime(model: "ModelProto", dtype: torch.dtype) -> Run:
    """By ONNX Runtime, with as many threads as torch.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError("backend onnx needs onnxruntime: pip install 'undistill[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0].name

    def run(inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        result: NDArray[Any] = session.run([output], inputs)[0]
        return result

    return run


def openvino(model: "ModelProto", dtype: torch.dtype) -> Run:
    """By OpenVINO, with as many threads as torch, in the precision that is asked: it would take bfloat16 by itself.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import openvino as ov

        core = _one(ov.Core)
    except ImportError as error:
        raise UsageError("backend openvino needs openvino: pip install 'undistill[openvino]'") from error
    except RuntimeError as error:  # of its loader
        raise UsageError(f"openvino can't be loaded ({first_line(error)}): take another backend") from error
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    requests: Spare[Any] = Spare(compiled.create_infer_request)

    def run(inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        with requests() as request:
            request.infer(dict(inputs))
            result: NDArray[Any] = request.get_output_tensor(0).data.copy()
        return result

    return run


def _one(core: Callable[[], Any]) -> Any:
    """A core for as long as the process lives: OpenVINO gives the thread that first compiles a signal stack, and frees
    it with the last of its core, from whatever thread lets go of that. The next signal to the first would be the end.
    """
    with _MAKING:  # two threads may ask at once, and `cache` lets both in
        if not _CORES:
            _CORES.append(core())
    return _CORES[0]


_MAKING = Lock()
_CORES: list[Any] = []

RUNTIMES = {"onnx": onnx_runtime, "openvino": openvino}
