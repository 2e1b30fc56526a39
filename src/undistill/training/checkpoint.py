"""A run's whole state in one safetensors file: tensors by name, everything else as JSON in the file's metadata."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from undistill.base.files import replacing

_TENSOR = "tensor"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors and JSON values, beside `path` and renamed."""
    tensors: dict[str, Tensor] = {}

    def strip(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            return {_TENSOR: name}
        if isinstance(value, dict):
            return {"dict": [[key, strip(item, f"{name}.{key}")] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            return {"list": [strip(item, f"{name}.{number}") for number, item in enumerate(value)]}
        return {"value": value}

    tree = strip(state, "state")
    with replacing(path) as beside:
        save_file(tensors, beside, metadata={"state": json.dumps(tree)})


def load(path: Path) -> dict[str, Any]:
    """What `save` was given; tuples come back as lists."""
    with safe_open(path, framework="pt") as file:
        tree = json.loads(file.metadata()["state"])

        def restore(node: dict[str, Any]) -> Any:
            match node:
                case {"tensor": name}:
                    # A copy: the file's own memory is not aligned, and products of such are rounded otherwise.
                    return file.get_tensor(name).clone()
                case {"dict": items}:
                    return {key: restore(item) for key, item in items}
                case {"list": items}:
                    return [restore(item) for item in items]
                case _:
                    return node["value"]

        state: dict[str, Any] = restore(tree)
        return state
