"""Backends that run graphs, and graphs as files: in one file, since each head is traced once for all of it."""

import gc
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, Structure, byref, c_int, c_size_t, c_void_p
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from torch import Tensor

from tests.conftest import psnr, strong
from tests.enhance.backends.conftest import HEADS, Mixed
from tests.enhance.test_enhancer import picture
from undistill.base.errors import Failure, UsageError
from undistill.enhance import Enhancer, enhancer
from undistill.enhance import export as exporting
from undistill.enhance.backends import BackendName, graph, runtimes, table
from undistill.enhance.backends.table import fastest
from undistill.enhance.export import Format, Precision, export
from undistill.heads import Head, ResnetGenerator


def lit(height: int, width: int) -> Tensor:
    """A picture no part of which has the statistics of the whole."""
    image = torch.from_numpy(picture(height, width).copy()).permute(2, 0, 1).float() / 255
    image[:, :, : width // 2] *= 0.3
    return image


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_graph_does_as_torch_does(backend: BackendName, head: Head) -> None:
    by_torch, by_graph = Enhancer(head, "cpu"), Enhancer(head, "cpu", backend=backend)
    for images in (lit(90, 131), torch.stack([lit(40, 57), lit(40, 57).flip(2)]), lit(3, 200), lit(300, 170)):
        expected = by_torch(images)
        assert psnr(by_graph(images), expected, 1.0) >= 80
        assert psnr(images, expected, 1.0) < 40


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_graphs_tiles_equal_torchs_whole(backend: BackendName, head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    image = lit(300, 410)
    whole = Enhancer(head, "cpu")(image)
    run = Enhancer(head, "cpu", backend=backend)
    monkeypatch.setattr(enhancer, "WHOLE", 256 * 256)
    monkeypatch.setattr(enhancer, "CORE", 256)
    tiled = run(image)
    assert psnr(whole, tiled, 1.0) >= 45
    assert float((whole - tiled).abs().mean((0, 1)).max()) < 2 / 255


@pytest.mark.e2e
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("name", ["flux1", "flux1-lite", "tiny-best", "tiny-unet", "tiny-cyclegan", "tiny-esa"])
def test_shipped_heads(backend: BackendName, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = lit(500, 700)
    by_torch, by_graph = (Enhancer(name, "cpu", scale="native", backend=each) for each in ("torch", backend))
    whole = by_torch(image)
    assert psnr(by_graph(image), whole, 1.0) >= 80
    monkeypatch.setattr(enhancer, "WHOLE", 256 * 256)
    monkeypatch.setattr(enhancer, "CORE", 256)
    assert psnr(by_graph(image), whole, 1.0) >= 45


def test_the_order_in_memory_changes_nothing_that_shows() -> None:
    head = strong(ResnetGenerator(4, 1))
    image = lit(60, 80)
    first = Enhancer(head, "cpu")(image)
    assert psnr(first, Enhancer(head, "cpu", backend="contiguous")(image), 1.0) >= 100


@pytest.mark.e2e
def test_compiled_and_in_tiles(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    image = lit(96, 120)
    whole = Enhancer(head, "cpu")(image)
    run = Enhancer(head, "cpu", backend="compile")
    assert psnr(run(image), whole, 1.0) >= 80
    monkeypatch.setattr(enhancer, "WHOLE", 64 * 64)
    assert psnr(run(image), whole, 1.0) >= 45


def test_threads_share_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Enhancer(HEADS["mixed"], "cpu", backend="openvino")
    for name, px in (("WHOLE", 96 * 96), ("CORE", 96), ("HALO", 16)):
        monkeypatch.setattr(enhancer, name, px)
    images = [picture(100 + 8 * number, 90, seed=number) // (1 + number % 3) for number in range(4)]
    images.append(picture(60, 64))
    one_by_one = [run(image) for image in images]
    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(run, images))
    assert all(np.array_equal(a, b) for a, b in zip(one_by_one, at_once, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_signals_find_their_stack_after_a_graph_is_gone() -> None:
    class Stack(Structure):
        _fields_ = (("begin", c_void_p), ("flags", c_int), ("size", c_size_t))

    held = [Enhancer(HEADS["mixed"], "cpu", backend="openvino")]
    held[0](lit(40, 57))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(held.clear).result()
        pool.submit(gc.collect).result()
    stack = Stack()
    CDLL(None).sigaltstack(None, byref(stack))
    maps = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    assert stack.begin is None or any(int(start, 16) <= stack.begin < int(end, 16) for start, end in maps)


def test_a_graph_is_traced_once_for_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any) -> None:
        raise AssertionError("traced again")

    Enhancer(HEADS["mixed"], "cpu", backend="onnx")
    monkeypatch.setattr(graph, "_trace", never)
    Enhancer(HEADS["mixed"], "cpu", backend="onnx")
    with pytest.raises(AssertionError, match="traced again"):
        Enhancer(strong(Mixed(), seed=1), "cpu", backend="onnx")


@pytest.mark.parametrize(
    ("backend", "module"),
    [("onnx", "onnx"), ("onnx", "onnxscript"), ("onnx", "onnxruntime"), ("openvino", "onnx"), ("openvino", "openvino")],
)
def test_what_is_not_installed_is_named(backend: BackendName, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"needs {module}: pip install 'undistill\[{backend}\]'"):
        Enhancer(HEADS["mixed"], "cpu", backend=backend)


class Sorted(ResnetGenerator):
    """ONNX has no operator for it."""

    def body(self, x: Tensor) -> Tensor:
        return torch.histc(x, 4).mean() + x


def test_a_head_that_no_graph_can_run() -> None:
    with pytest.raises(
        UsageError, match=r"backend onnx can't run this Sorted: .*histc.*; --backend torch can"
    ) as error:
        Enhancer(Sorted(2, 1).eval(), "cpu", backend="onnx")
    assert "\n" not in str(error.value)


def test_what_a_backend_does_not_do() -> None:
    with pytest.raises(UsageError, match="backend onnx runs in float32"):
        Enhancer(HEADS["mixed"], "cpu", torch.bfloat16, backend="onnx")
    with pytest.raises(ValueError, match="take one of torch, contiguous, bf16, compile, onnx, openvino"):
        Enhancer(HEADS["mixed"], "cpu", backend="tensorrt")  # type: ignore[arg-type]


NAMES = {"head": "mine", "weights": "0"}


@pytest.mark.parametrize(("form", "precision"), [("onnx", "fp32"), ("openvino", "fp16"), ("onnx", "bf16")])
def test_an_exported_head_takes_any_size_and_says_what_it_is(
    form: Format, precision: Precision, head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "SIDE", 96)
    out = tmp_path / ("head.onnx" if form == "onnx" else "head.xml")
    made = export(head, NAMES, out, form, precision)
    assert made.psnr >= exporting.LEAST_DB[precision]
    x = lit(72, max(48 if head.multiple > 1 else 51, head.smallest))[None] * 2 - 1
    with torch.no_grad():
        expected = head(x)
    if form == "onnx":
        model = onnx.load(out)
        onnx.checker.check_model(model)
        said = {each.key: each.value for each in model.metadata_props}
        assert {opset.domain: opset.version for opset in model.opset_import} == {"": 20}
        y = runtimes.onnx_runtime(model, torch.float32)({"x": x.numpy()})
    else:
        core = openvino.Core()
        read = core.read_model(out)
        said = {key: read.get_rt_info(["undistill", key]).astype(str) for key in ("head", "multiple", "descriptor")}
        y = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x.numpy())[0]
    assert said["head"] == "mine"
    assert said["multiple"] == str(head.multiple)
    assert json.loads(said["descriptor"])["architecture"] == type(head).__name__
    assert psnr(torch.from_numpy(y), expected, 2.0) >= exporting.LEAST_DB[precision]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ([".onnx"] if form == "onnx" else [".bin", ".xml"])


def test_int8_is_written_or_refused_with_its_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "SIDE", 96)
    monkeypatch.setitem(exporting.LEAST_DB, "int8", 10)
    made = export(HEADS["mixed"], NAMES, tmp_path / "head.onnx", "onnx", "int8")
    assert 10 < made.psnr < 80
    written = onnx.load(made.path).graph
    makers = {name: node.op_type for node in written.node for name in node.output}
    first, *between, last = (makers.get(node.input[1]) for node in written.node if node.op_type == "Conv")
    assert (first, set(between), last) == (None, {"DequantizeLinear"}, None)
    stored = [
        onnx.numpy_helper.to_array(each) for each in written.initializer if each.data_type == onnx.TensorProto.INT8
    ]
    assert 32 < max(np.abs(each.astype(int)).max() for each in stored) <= 64  # seven bits
    before = made.path.read_bytes()
    monkeypatch.setitem(exporting.LEAST_DB, "int8", 80)
    words = rf"int8 comes no nearer to float32 than {made.psnr:.1f} dB on 8 portraits, and 80 dB are asked"
    with pytest.raises(Failure, match=words):
        export(HEADS["mixed"], NAMES, made.path, "onnx", "int8")
    assert made.path.read_bytes() == before
    with pytest.raises(UsageError, match="no image inside"):
        export(HEADS["mixed"], NAMES, made.path, "onnx", "int8", tmp_path)


def test_the_table_of_backends_is_kept_and_made_anew_where_it_does_not_fit(
    graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "SIZE", 32)
    here = torch.device("cpu")
    assert table.seconds_by_backend(HEADS["mixed"], here, measure=False) == {}
    monkeypatch.setattr("undistill.enhance.backends.has_native_bfloat16", lambda: False)
    first = table.seconds_by_backend(HEADS["mixed"], here)
    assert list(first) == [name for name in table.TIMED if name != "bf16"]
    assert table.seconds_by_backend(HEADS["mixed"], here) == first
    monkeypatch.setattr(table, "processor", lambda: "another")
    assert table.seconds_by_backend(HEADS["mixed"], here) != first
    for kept in graphs.glob("*/*/seconds.kept"):
        kept.write_bytes(kept.read_bytes().replace(b"torch", b"porch"))
    assert set(table.seconds_by_backend(HEADS["mixed"], here)) == set(first)


def test_bfloat16_is_timed_where_the_cpu_has_it_and_the_head_bears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def bearing(decibels: float) -> Head:
        head = strong(ResnetGenerator(4, 1))
        head.bf16_psnr = {"cpu": decibels}
        return head

    def timed(head: Head) -> list[float] | str:
        return table.time_backends(head, torch.device("cpu"), 32, ("torch", "bf16"), rounds=1)["bf16"]

    monkeypatch.setattr("undistill.enhance.backends.has_native_bfloat16", lambda: True)
    assert len(timed(bearing(60))) == 1
    assert timed(bearing(30)) == "backend bf16 would change what this head makes: take torch"
    image = lit(60, 80)
    by_bf16 = Enhancer(bearing(60), "cpu", backend="bf16")(image)
    assert 30 < psnr(by_bf16, Enhancer(bearing(60), "cpu")(image), 1.0) < 80
    with pytest.raises(UsageError, match="backend bf16 runs in bfloat16"):
        Enhancer(bearing(60), "cpu", torch.float32, backend="bf16")
    monkeypatch.setattr("undistill.enhance.backends.has_native_bfloat16", lambda: False)
    assert "needs a CPU with instructions for bfloat16" in timed(bearing(60))


def test_auto_takes_nothing_that_would_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table says is fastest may not run in the type that is asked for, or on the head as it is now."""
    here = torch.device("cpu")
    monkeypatch.setattr("undistill.enhance.backends.has_native_bfloat16", lambda: True)
    timed = {"torch": 9.0, "contiguous": 8.0, "bf16": 1.0, "onnx": 2.0}
    monkeypatch.setattr(table, "seconds_by_backend", lambda *_, **__: timed)
    head = strong(ResnetGenerator(4, 1))
    head.bf16_psnr = {"cpu": 60}
    assert fastest(head, here) == "bf16"
    assert fastest(head, here, dtype=torch.float32) == "onnx"
    assert fastest(head, here, dtype=torch.bfloat16) == "bf16"
    head = strong(ResnetGenerator(4, 1))
    head.bf16_psnr = {"cpu": 30}
    assert fastest(head, here) == "onnx"
    assert fastest(head, here, dtype=torch.bfloat16) == "contiguous"


def test_what_was_never_timed_goes_by_the_architecture() -> None:
    few = {name: fastest(head, torch.device("cpu"), images=3) for name, head in HEADS.items()}
    assert few == {"mixed": "contiguous", "grid": "contiguous", "esa": "contiguous", "unet": "torch"}


def test_the_fastest_is_taken_if_it_is_that_by_more_than_noise() -> None:
    assert table.pick({"torch": 1.0, "onnx": 0.5, "openvino": 0.4}) == "openvino"
    assert table.pick({"torch": 1.0, "onnx": 0.95}) == "torch"
    assert table.pick({"torch": 1.0, "onnx": 2.0}) == "torch"
    assert table.pick({"torch": 1.0}) == "torch"


def test_what_is_timed_comes_after_an_image_of_the_same_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of the backend before it still spin: as in a folder, each finds its own."""
    ran: list[str] = []
    timed: list[list[str]] = []

    def seconds(step: Callable[[], None], took: float) -> float:
        step()
        timed.append(ran[-2:])
        return took

    monkeypatch.setattr(table, "_step", lambda name, *_: lambda: ran.append(name))
    monkeypatch.setattr(table, "_seconds", lambda step: seconds(step, 0.1))
    table.time_backends(HEADS["mixed"], torch.device("cpu"), 32, ("torch", "onnx"), rounds=2)
    assert timed[1::2] == [["torch", "torch"], ["onnx", "onnx"]] * 2
    ran.clear()
    monkeypatch.setattr(table, "_seconds", lambda step: seconds(step, table.SETTLES_S))
    table.time_backends(HEADS["mixed"], torch.device("cpu"), 32, ("torch", "onnx"), rounds=2)
    assert ran == ["torch", "onnx"] * 3


def test_a_broken_runtime_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("libopenvino.so: wrong ELF class\nand more")

    monkeypatch.setattr(table, "_step", lambda name, *_: broken() if name == "openvino" else lambda: None)
    found = table.time_backends(HEADS["mixed"], torch.device("cpu"), 32, rounds=1)
    assert [len(seconds) for name, seconds in found.items() if name != "openvino"] == [1, 1, 1, 1]
    assert found["openvino"] == "libopenvino.so: wrong ELF class"
    monkeypatch.setattr(runtimes, "_one", broken)
    with pytest.raises(UsageError, match=r"can't be loaded \(libopenvino.so: wrong ELF class\)"):
        runtimes.openvino(onnx.ModelProto(), torch.float32)


def test_one_core_for_threads_that_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Barrier(2)

    def core() -> object:
        time.sleep(0.05)
        return object()

    def ask(_: int) -> object:
        both.wait(10)
        return runtimes._one(core)

    monkeypatch.setattr(runtimes, "_CORES", [])
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(ask, range(2))
    assert one is other


def test_a_damaged_graph_in_the_cache_is_traced_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNDISTILL_CACHE", str(tmp_path))
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    traced = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))
    asked: list[str] = []

    def trace(head: Head, name: str) -> Any:
        asked.append(name)
        return traced

    monkeypatch.setattr(graph, "_trace", trace)
    for _ in range(2):
        assert graph.traced_graph(HEADS["mixed"], "onnx").graph.node
    assert asked == ["onnx"]
    (kept,) = tmp_path.rglob("graph.kept")
    whole = kept.read_bytes()
    for damaged in (b"", whole.replace(b"Identity", b"Identify")):
        kept.write_bytes(damaged)
        assert graph.traced_graph(HEADS["mixed"], "onnx").graph.node[0].op_type == "Identity"
    assert asked == ["onnx"] * 3
