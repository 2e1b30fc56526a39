"""undistill's nodes for ComfyUI: heads that give portraits back what distillation took."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
