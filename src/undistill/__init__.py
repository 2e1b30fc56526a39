"""undistill gives the portraits of distilled text-to-image models back what distillation took."""

from importlib.metadata import version

__version__ = version("undistill")
