"""The options that say who does the work, and where."""

import os
from enum import StrEnum
from typing import Annotated, Literal

import typer

from undistill.base.engines import Engine
from undistill.base.errors import UsageError


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


By = Annotated[EngineName, typer.Option("--engine", help="On this machine, or on a Ray cluster.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Processes, each with one thread.  [default: as many as cores; with a GPU, 1; ray: what has room]"
    ),
]
Address = Annotated[
    str | None,
    typer.Option(metavar="ADDR", help="Of a Ray cluster.  [default: RAY_ADDRESS; else one is started here]"),
]
Gpus = Annotated[
    float | None,
    typer.Option("--gpus-per-worker", min=0, help="With ray; 0.5: two share one.  [default: 1 where there are GPUs]"),
]
Offload = Annotated[
    Literal["none", "model", "group"] | None,
    typer.Option(help="What waits on the CPU: nothing, idle models, or blocks of models too.  [default: what must]"),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.  [default: a GPU if there is one]")]


def check_engine(name: EngineName, address: str | None, gpus: float | None) -> None:
    """Raises:
    UsageError: options of the other engine.
    """
    if name != "ray" and (address is not None or gpus is not None):
        raise UsageError("--address and --gpus-per-worker go with --engine ray")


def ray_engine(
    workers: int | None, device: str | None, address: str | None, gpus: float | None
) -> tuple[str | None, Engine]:
    """Where to compute, and the engine: unless the user says, a worker finds its device where it is."""
    from undistill.base.engines.ray import on_ray

    if device is None and gpus == 0:
        device = "cpu"
    return device, on_ray(workers, address, 0 if device == "cpu" and gpus is None else gpus)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
