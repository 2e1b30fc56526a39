"""What several verbs take: who does the work and where, and folders as NAME=DIR."""

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from undistill.base.engines import Engine
from undistill.base.errors import UsageError
from undistill.base.output import console

if TYPE_CHECKING:
    from rich.console import Console


class EngineName(StrEnum):
    """The engines that --engine takes."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[EngineName, typer.Option("--engine", help="On this machine, or on a Ray cluster.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Processes, each with one thread.  [default: as many as cores; with a GPU, 1; ray: what has room]"
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(metavar="ADDR", help="Of a Ray cluster.  [default: RAY_ADDRESS; else one is started here]"),
]
GpusOption = Annotated[
    float | None,
    typer.Option("--gpus-per-worker", min=0, help="With ray; 0.5: two share one.  [default: 1 where there are GPUs]"),
]
OffloadOption = Annotated[
    Literal["none", "model", "group"] | None,
    typer.Option(help="What waits on the CPU: nothing, idle models, or blocks of models too.  [default: what must]"),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what this command made there with other settings.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.  [default: a GPU if there is one]")]

AnyBackend = Literal["auto", "torch", "contiguous", "bf16", "compile", "onnx", "openvino"]

FormatName = Literal["text", "md", "json"]
FormatOption = Annotated[
    FormatName,
    typer.Option(
        "--format", help="Of what is printed: tables as wide as the terminal, Markdown, or the JSON that is kept."
    ),
]


def print_results(form: FormatName, show: Callable[["Console"], None], markdown: Callable[[], str], kept: Any) -> None:
    """Print what was found, as it was asked for.

    Args:
        kept: what the file of results holds.
    """
    if form == "text":
        show(console())
    else:
        typer.echo(markdown() if form == "md" else json.dumps(kept, indent=2, ensure_ascii=False))


def check_engine(name: EngineName, address: str | None, gpus: float | None) -> None:
    """Raises:
    UsageError: options of the other engine.
    """
    if name != "ray" and (address is not None or gpus is not None):
        raise UsageError(f"{'--address' if address is not None else '--gpus-per-worker'} goes with --engine ray")


def ray_engine(
    workers: int | None, device: str | None, address: str | None, gpus: float | None
) -> tuple[str | None, Engine]:
    """Where to compute, and the engine: unless the user says, a worker finds its device where it is."""
    from undistill.base.engines.ray import on_ray

    if device is None and gpus == 0:
        device = "cpu"
    return device, on_ray(workers, address, 0 if device == "cpu" and gpus is None else gpus)


def named_folder(text: str, option: str = "") -> tuple[str, Path]:
    """A name and its folder; see `named_folders`."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UsageError(f"{_before(option)}{text!r}: write NAME=DIR")
    return name, Path(folder)


def named_folders(texts: Sequence[str], option: str = "") -> dict[str, Path]:
    """The folders by name.

    Args:
        option: what they were given to, for messages.

    Raises:
        UsageError: one is not of the form NAME=DIR, or a name is given twice.
    """
    folders: dict[str, Path] = {}
    for text in texts:
        name, folder = named_folder(text, option)
        if name in folders:
            raise UsageError(f"{_before(option)}{name} is given twice")
        folders[name] = folder
    return folders


def _before(option: str) -> str:
    return f"{option} " if option else ""


def check_ours(path: Path, mark: str) -> None:
    """Whatever lies where a file is to be written was written by the same verb: `mark` is in its first 4 kB.

    Raises:
        UsageError: it is somebody else's.
    """
    if path.is_file():
        with path.open("rb") as file:
            first = file.read(4096)
        if first and mark.encode() not in first:
            raise UsageError(f"{path} is there and not made by this command: give another name")


def refuse_others(path: Path, differ: Callable[[], Sequence[str]], *, overwrite: bool) -> None:
    """Whatever the same verb has written there was asked for in the same way, or may be replaced.

    Args:
        differ: in what it differs from what is asked now; called where there is something.

    Raises:
        UsageError: it would be lost.
    """
    if overwrite or not path.is_file() or not path.stat().st_size:
        return
    if others := differ():
        raise UsageError(
            f"{path} was made with other {', '.join(others)}: --overwrite replaces it; or give another name"
        )


def call_verb(command: Sequence[str]) -> None:
    """Run another verb in this process, by what is typed after `undistill`; what goes wrong in it is raised."""
    from undistill.cli import app

    code = app(list(command), standalone_mode=False)
    if code == 130:  # what typer makes of a KeyboardInterrupt
        raise KeyboardInterrupt
    if code:
        raise SystemExit(code)
