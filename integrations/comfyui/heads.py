"""Where heads and pairs are found, and how ComfyUI's memory manager gets hold of their networks."""

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import folder_paths
from torch import nn

from undistill.heads import Head, shipped_heads

FOLDER = "undistill"
"""Of ComfyUI's models: heads, each a folder with config.json, and pair specs (YAML)."""

folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER), is_default=True)


def names() -> list[str]:
    """Heads of the models folder, by their way in it, then those that come with undistill."""
    own = {path.parent.relative_to(folder).as_posix() for folder in _folders() for path in folder.rglob("config.json")}
    return [*sorted(own), *(name for name in shipped_heads() if name not in own)]


def load(name: str) -> Head:
    """A head of `names()`, or of the Hugging Face hub, "owner/name"."""
    own = [folder / name for folder in _folders() if (folder / name / "config.json").is_file()]
    return Head.from_pretrained(own[0] if own else name)


def specs() -> list[str]:
    """Pair specs of the models folder, then those that come with undistill."""
    from undistill.pairs.spec import shipped_pairs

    own = {path.relative_to(folder).as_posix() for folder in _folders() for path in folder.rglob("*.yaml")}
    return [*sorted(own), *shipped_pairs()]


def spec_of(name: str) -> str | Path:
    """What `read_spec` takes."""
    own = [folder / name for folder in _folders() if (folder / name).is_file()]
    return own[0] if own else name


class Held(nn.Module):
    """Networks that come and go together. ComfyUI writes into the module that it manages: it gets this one."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)


def managed(networks: list[nn.Module]) -> Any:
    """As ComfyUI's manager takes networks: on its device while they run, elsewhere when others need the room."""
    return comfy.model_patcher.ModelPatcher(
        Held(networks),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def ready(patcher: Any, working: int = 0) -> None:
    """Bring managed networks onto ComfyUI's device, whole; `working`: bytes that a pass takes beside."""
    comfy.model_management.load_models_gpu([patcher], memory_required=working, force_full_load=True)


def _folders() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER) if Path(folder).is_dir()]
