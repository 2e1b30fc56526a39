"""ComfyUI's documented interface (docs.comfy.org, V3), as much of it as the nodes use. Nothing here is its code."""

import asyncio
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

NODES = Path(__file__).parents[2] / "integrations" / "comfyui"


class Interrupted(BaseException):
    """What Cancel raises."""


class Comfy:
    """What the stub has seen: bars, models brought to the device; and whether Cancel was pressed."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.bars: list[tuple[int, int]] = []
        self.loaded: list[Any] = []
        self.cancelled = False

    def modules(self) -> dict[str, ModuleType]:
        """By name, as they go into sys.modules."""
        folders: dict[str, list[str]] = {}
        comfy = self

        class ProgressBar:
            def __init__(self, total: int) -> None:
                self.total, self.done = total, 0

            def update(self, value: int) -> None:
                self.done += value
                comfy.bars.append((self.done, self.total))

        class ModelPatcher:
            def __init__(self, model: Any, load_device: Any, offload_device: Any) -> None:
                model.device = offload_device  # ComfyUI's writes there, too
                self.model, self.load_device = model, load_device

        def stop() -> None:
            if self.cancelled:
                raise Interrupted

        management = _module(
            "comfy.model_management",
            get_torch_device=lambda: torch.device("cpu"),
            unet_offload_device=lambda: torch.device("cpu"),
            load_models_gpu=lambda models, **options: self.loaded.append((models, options)),
            throw_exception_if_processing_interrupted=stop,
        )
        utils = _module("comfy.utils", ProgressBar=ProgressBar)
        patcher = _module("comfy.model_patcher", ModelPatcher=ModelPatcher)
        latest = _module(
            "comfy_api.latest",
            ComfyExtension=type("ComfyExtension", (), {}),
            io=_io(),
            ui=SimpleNamespace(PreviewImage=lambda image, cls: ("preview", image.shape)),
        )
        paths = _module(
            "folder_paths",
            models_dir=str(self.models),
            add_model_folder_path=lambda name, folder, is_default=False: folders.setdefault(name, []).append(folder),
            get_folder_paths=lambda name: folders[name][:],
        )
        return {
            "comfy": _module("comfy", model_management=management, utils=utils, model_patcher=patcher),
            "comfy.model_management": management,
            "comfy.utils": utils,
            "comfy.model_patcher": patcher,
            "comfy_api": _module("comfy_api", latest=latest),
            "comfy_api.latest": latest,
            "folder_paths": paths,
        }


def load_nodes(comfy: Comfy, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The nodes by id, loaded as ComfyUI loads them."""
    for name, module in comfy.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    name = "custom_nodes_undistill"
    for loaded in [other for other in sys.modules if other.startswith(name)]:
        monkeypatch.delitem(sys.modules, loaded)
    spec = spec_from_file_location(name, NODES / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    package = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, package)
    spec.loader.exec_module(package)

    async def nodes() -> list[Any]:
        extension = await package.comfy_entrypoint()
        found: list[Any] = await extension.get_node_list()
        return found

    return {node.define_schema().node_id: node for node in asyncio.run(nodes())}


def _module(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


def _io() -> Any:
    class Slot:
        def __init__(self, kind: str, id: str | None = None, **options: Any) -> None:
            self.kind, self.id, self.options = kind, id, options

    class Schema:
        def __init__(
            self,
            node_id: str,
            display_name: str,
            category: str,
            inputs: list[Any],
            outputs: list[Any],
            description: str = "",
            is_output_node: bool = False,
        ) -> None:
            self.node_id, self.display_name, self.category = node_id, display_name, category
            self.inputs, self.outputs, self.description = inputs, outputs, description
            self.is_output_node = is_output_node

    class NodeOutput:
        def __init__(self, *args: Any, ui: Any = None) -> None:
            self.args, self.ui = args, ui

    def kind(name: str) -> Any:
        def make_input(id: str, **options: Any) -> Slot:
            return Slot(name, id, **options)

        def make_output(**options: Any) -> Slot:
            return Slot(name, **options)

        return SimpleNamespace(Input=make_input, Output=make_output)

    kinds = {name.title(): kind(name) for name in ("IMAGE", "MASK", "FLOAT", "INT", "STRING", "COMBO")}
    return SimpleNamespace(
        Schema=Schema, NodeOutput=NodeOutput, ComfyNode=type("ComfyNode", (), {}), Custom=kind, **kinds
    )
