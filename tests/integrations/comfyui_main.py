"""Starts a checkout of ComfyUI beside a CPU build of torch: python comfyui_main.py CHECKOUT ...

torchvision's Python parts import beside any torch once the two operators are declared that it gives shapes to. Nothing
that ComfyUI or the nodes do here asks for them.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import torch

library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define(
    "qnms(Tensor dets, Tensor scores, float iou_threshold, float dets_scale, float dets_zero_point) -> Tensor"
)

checkout = Path(sys.argv[1]).resolve()
packages = checkout / ".packages"  # `make comfyui` put them there
sys.path[0] = str(checkout)  # in the place of this folder
sys.path.append(str(packages))
sys.argv = [str(checkout / "main.py"), *sys.argv[2:]]
os.chdir(checkout)
runpy.run_path(sys.argv[0], run_name="__main__")
