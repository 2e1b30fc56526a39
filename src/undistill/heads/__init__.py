"""Heads: the networks that make student images look like teacher images."""

from undistill.heads.esa import EsaGenerator
from undistill.heads.grid import GridHead
from undistill.heads.head import Descriptor, Head, HeadError, shipped_heads
from undistill.heads.resnet import PatchGAN, ResnetGenerator
from undistill.heads.unet import UNet

__all__ = [
    "Descriptor",
    "EsaGenerator",
    "GridHead",
    "Head",
    "HeadError",
    "PatchGAN",
    "ResnetGenerator",
    "UNet",
    "shipped_heads",
]
