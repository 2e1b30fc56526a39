"""undistill gives the portraits of distilled text-to-image models back what distillation took."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undistill.client import Client
    from undistill.integrations.diffusers import wrap
    from undistill.pipeline import Pipeline

__all__ = ["Client", "Pipeline", "__version__", "wrap"]

__version__ = version("undistill")


def __getattr__(name: str) -> Any:
    # Torch and diffusers take seconds to import: only who asks for what needs them waits.
    if name == "Pipeline":
        from undistill.pipeline import Pipeline

        return Pipeline
    if name == "Client":
        from undistill.client import Client

        return Client
    if name == "wrap":
        from undistill.integrations.diffusers import wrap

        return wrap
    if name == "spandrel":
        return import_module("undistill.spandrel")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
