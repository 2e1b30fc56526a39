"""Enhancing: run a head on any image."""

from undistill.enhance.enhancer import Enhancer

__all__ = ["Enhancer"]
