"""What undistill finds on this machine, and what what is missing costs. Nothing is downloaded, and nothing written."""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from stat import S_ISREG
from typing import Any

from packaging.requirements import Requirement

from undistill.base.errors import Failure, first_line
from undistill.base.files import weights_file
from undistill.base.machine import cores, free_memory, memory

PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow", "pyarrow", "torchmetrics")
"""Packages on which figures depend, whose versions are told; of the others, only what is wrong with them."""

MODULES = {
    "c2pa-python": "c2pa",
    "dlib-bin": "dlib",
    "grpcio": "grpc",
    "opentsne": "openTSNE",
    "prometheus-client": "prometheus_client",
    "python-multipart": "python_multipart",
    "scikit-image": "skimage",
    "universal-pathlib": "upath",
}
"""What is imported, where it has another name than the package."""

WITHOUT = {
    "c2pa": "no signed manifests: no --c2pa-cert in `enhance`",
    "cloud": "no pairs data sets in object stores (s3://, gs://)",
    "deepface": "no ethnicity and no ArcFace in `diversity`",
    "diversity": "no `diversity` and no `reproduce`: no map of faces, no figures",
    "docs": "no site (`make docs`)",
    "faces": "no identity, age and gender of faces in `evaluate` and `demo`; no `diversity`; no `enhance --where face`",
    "inception": "no FID by Inception (`evaluate --features`)",
    "onnx": "heads by torch alone, and no `export`",
    "openvino": "no heads by OpenVINO, the fastest on many CPUs (enhance --backend)",
    "quality": "no effect of blur in `evaluate`; no `reproduce`",
    "quantised": "no weights in fewer bits: no pairs flux1-nf4 and flux1-gguf",
    "ray": "no --engine ray: `pairs create` and `enhance` on this machine alone",
    "report": "no plots: no `bench`",
    "serve": "no `serve`: no service, and no page; `judge --export` alone",
    "serve-ray": "no `serve --engine ray`: the service on this machine alone",
    "sweep": "no `sweep`",
}
"""What each extra's absence costs."""

INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX BF16"}
"""What makes heads fast on a CPU, by its name in /proc/cpuinfo."""


@dataclass(frozen=True)
class Finding:
    """A thing that was looked for.

    Args:
        part: where it belongs: versions, devices, room, extras, caches or weights.
        says: what there is, or what is wrong, in words.
        there: whether it is there, and can be used.
        costs: what can't be done without it.
        remedy: what to do about it.
        figures: the same as `says`, for programs.
    """

    part: str
    name: str
    says: str
    there: bool = True
    costs: str = ""
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def examine() -> list[Finding]:
    """Look at everything; a few tenths of a second, and the import of torch."""
    return [*_versions(), *_devices(), *_room(), *_extras(), *_caches(), *_weights()]


def to_json(findings: list[Finding]) -> dict[str, Any]:
    """The findings by part and name."""
    parts: dict[str, Any] = {}
    for found in findings:
        words = {key: text for key in ("costs", "remedy") if (text := getattr(found, key))}
        row = {"there": found.there, "says": found.says, **words, **found.figures}
        parts.setdefault(found.part, {})[found.name] = row
    return parts


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "undistill", version("undistill"))
    yield Finding("versions", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    required = {one.name: one for one in _required() if one.marker is None or one.marker.evaluate({"extra": ""})}
    for name in dict.fromkeys((*PACKAGES, *required)):
        wrong = _wrong(required[name]) if name in required else ""
        if wrong:
            yield Finding("versions", name, wrong, False, "undistill needs it", f"pip install '{required[name]}'")
        elif name in PACKAGES:
            yield Finding("versions", name, version(name))


def _required() -> list[Requirement]:
    return [Requirement(line) for line in distribution("undistill").requires or ()]


def _wrong(required: Requirement) -> str:
    """What is wrong with an installed package; "" where it is as it is required."""
    try:
        found = version(required.name)
    except PackageNotFoundError:
        return "not installed"
    return "" if required.specifier.contains(found, prereleases=True) else f"{found}, but {required.specifier} is asked"


def _devices() -> Iterator[Finding]:
    try:
        import torch

        from undistill.base.device import has_bfloat16, processor
    except Exception as error:  # a broken installation raises whatever it likes
        yield Finding(
            "devices", "cpu", f"torch can't be imported: {first_line(error)}", False, "nothing can be computed"
        )
        return
    fast = _instructions()
    words = f"{processor()}, {cores()} cores" + (f"; {', '.join(fast)}" if fast else "")
    slow = not has_bfloat16(torch.device("cpu"))
    yield Finding(
        *("devices", "cpu", words),
        costs="recipes in bfloat16 train slowly: it has no instructions for that" if slow else "",
        remedy="`train --set precision=32-true`" if slow else "",
        figures={"cores": cores(), "instructions": fast, "bfloat16": not slow},
    )
    cards = range(torch.cuda.device_count())
    for number in cards:
        card = torch.cuda.get_device_properties(number)
        yield Finding(
            *("devices", f"cuda:{number}", f"{card.name}, {_gb(card.total_memory)}"),
            figures={"bytes": card.total_memory},
        )
    if not cards:
        says = remedy = ""
        if Path("/proc/driver/nvidia/version").exists():
            says = "there is one, but torch can't use it: nvidia-smi says whether it is there and its driver new enough"
            if torch.version.cuda is None:
                says = "there is one, but this torch is built for CPUs"
                remedy = "pip install --force-reinstall torch, without constraints.txt"
        costs = "FLUX needs one; heads run and train on a CPU too"
        yield Finding("devices", "gpu", says or "none", False, costs, remedy)


def _instructions() -> list[str]:
    listed = Path("/proc/cpuinfo")
    flags = re.search(r"^flags\s*:(.*)$", listed.read_text(), re.MULTILINE) if listed.exists() else None
    known = set(flags[1].split()) if flags else set()
    return [name for flag, name in INSTRUCTIONS.items() if flag in known]


def _room() -> Iterator[Finding]:
    total, free = memory(), free_memory()
    if isfinite(total):
        words = _gb(total) + (f", {_gb(free)} of it free" if free else "")
        yield Finding("room", "memory", words, figures={"bytes": total, "free_bytes": free})
    usage = shutil.disk_usage(Path.cwd())
    yield Finding(
        *("room", "disk", f"{_gb(usage.free)} free of {_gb(usage.total)}, in {Path.cwd()}"),
        figures={"bytes": usage.total, "free_bytes": usage.free},
    )


def _extras() -> Iterator[Finding]:
    required = _required()
    for extra in sorted(set(distribution("undistill").metadata.get_all("Provides-Extra") or ()) - {"dev"}):
        wrong = {}
        for one in required:
            if one.marker is None or one.marker.evaluate({"extra": ""}) or not one.marker.evaluate({"extra": extra}):
                continue
            if find_spec(MODULES.get(one.name, one.name.replace("-", "_"))) is None:
                wrong[one.name] = "not installed"
            elif (reason := _wrong(one)) != "not installed" and reason:
                wrong[one.name] = reason
        yield Finding(
            *("extras", extra, "; ".join(f"{name}: {reason}" for name, reason in wrong.items()) or "there"),
            there=not wrong,
            costs=WITHOUT.get(extra, "") if wrong else "",
            remedy=f"pip install 'undistill[{extra}]'" if wrong else "",
            figures={"missing": list(wrong)},
        )
    yield Finding(
        "extras", "ray cluster", os.environ.get("RAY_ADDRESS") or "RAY_ADDRESS is not set: one is started here"
    )


def _caches() -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from undistill.metrics.cache import LIMIT, cache_folder

    folders = {"undistill": (cache_folder(), LIMIT), "hugging face": (Path(HF_HUB_CACHE), None)}
    costs = {
        "undistill": "what was seen in images is looked at again each time (UNDISTILL_CACHE names another folder)",
        "hugging face": "no model of the hub can be kept (HF_HOME names another folder)",
    }
    for name, (folder, limit) in folders.items():
        size, writable = _size(folder), _writable(folder)
        bound = f" of at most {_gb(limit)}" if limit else ""
        yield Finding(
            *(
                "caches",
                name,
                f"{folder}: {_gb(size)}{bound}" + ("" if writable else "; it can't be written"),
                writable,
            ),
            costs="" if writable else costs[name],
            figures={"folder": str(folder), "bytes": size, "limit": limit, "writable": writable},
        )


def _size(folder: Path) -> int:
    """Bytes of the files in it; links count nothing."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # another process was faster
                status = (Path(parent) / name).lstat()
                size += status.st_size if S_ISREG(status.st_mode) else 0
    return size


def _writable(folder: Path) -> bool:
    """Whether it can be written to, or made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def _weights() -> Iterator[Finding]:
    """Weights that are not shipped."""
    try:
        yield Finding("weights", "VGG-16", str(weights_file("lpips_vgg.safetensors")))
    except Failure as error:
        costs = "no `features: [alex, vgg]` in recipes, no vgg-1 to vgg-5 in `evaluate`"
        yield Finding("weights", "VGG-16", "not here", False, costs, str(error).partition(": ")[2])

    from huggingface_hub import try_to_load_from_cache

    from undistill.metrics import CLIP
    from undistill.pairs.spec import read_spec

    flux = read_spec("flux1")
    gated = "accept its licence on huggingface.co, `hf auth login`; it is downloaded when it is asked for"
    for model, file, costs, remedy in (
        (flux.student.model, "model_index.json", "no pair of FLUX.1", gated),
        (flux.teacher.model, "model_index.json", "no teacher of FLUX.1", gated),
        (CLIP, "config.json", "no CLIP-IQA in `evaluate`", f"hf download {CLIP}"),
    ):
        if isinstance(found := try_to_load_from_cache(model, file), str):
            yield Finding("weights", model, str(Path(found).parent))
        else:
            yield Finding("weights", model, "not downloaded", False, costs, remedy)


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
