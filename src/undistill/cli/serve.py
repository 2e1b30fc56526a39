"""undistill serve"""

import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from undistill.base.errors import UsageError
from undistill.base.output import QUIET, say
from undistill.cli.options import AddressOption, AnyBackend, EngineName, EngineOption, check_engine

if TYPE_CHECKING:
    import socket as sockets

    from undistill.serve.app import Limits


_ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?"
)
"""As browsers send it: in small letters, without what is the scheme's own port."""


@dataclass(frozen=True)
class Which:
    """Heads, those of them that are worth timing, and what runs them."""

    heads: list[str]
    timed: list[str]
    backend: AnyBackend


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Another than this machine's own needs a key, or --no-key.")
    ] = "127.0.0.1",
    heads: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            metavar="HEAD",
            help="A shipped head, a folder (or NAME=DIR), or a Hugging Face id; may be repeated, the first is taken "
            "where a request names none.  [default: flux1, then the other shipped ones]",
        ),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option(help="A shipped pair (tiny, flux1), or a pair spec (YAML): prompts are drawn with it as well."),
    ] = None,
    devices: Annotated[
        list[str] | None,
        typer.Option("--device", help="cpu, cuda, cuda:1; may be repeated.  [default: a GPU if there is one]"),
    ] = None,
    backend: Annotated[
        AnyBackend,
        typer.Option(
            help="What runs heads; auto: the fastest here, timed once for those that are named with --head (else for "
            "the first), and kept."
        ),
    ] = "auto",
    queue: Annotated[int, typer.Option(min=1, help="Requests that are taken at a time; the next is told 503.")] = 32,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that a request may take.")] = 60,
    megabytes: Annotated[float, typer.Option("--max-megabytes", min=0.001, help="Of an image.")] = 32,
    megapixels: Annotated[
        float, typer.Option("--max-megapixels", min=0.001, max=178, help="Of an image; Pillow reads no more than 178.")
    ] = 40,
    rate: Annotated[
        int | None,
        typer.Option(
            min=1, help="Requests a minute of each key, or each address.  [default: any number; with keys 600]"
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="A site whose pages may ask, as https://example.com; may be repeated."),
    ] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="Let everyone ask who reaches HOST.")] = False,
    engine: EngineOption = EngineName.local,
    replicas: Annotated[
        int | None,
        typer.Option(min=1, help="With ray, processes that enhance, as the queue needs.  [default: what has room]"),
    ] = None,
    address: AddressOption = None,
) -> None:
    """Enhance what is posted: a service, and a page to try it at.

    It answers to this machine alone. The environment variable UNDISTILL_API_KEY (several: with commas between) holds
    the keys that requests must bring; with --host of another address there must be one. SIGTERM and Ctrl-C end it when
    all that it has taken is answered.
    """
    try:
        from undistill.base.web import listen
        from undistill.serve.app import Limits
    except ImportError as error:
        raise UsageError(f"serve needs {error.name}: pip install 'undistill[serve]'") from None
    from undistill.serve.guard import is_loopback

    keys = _keys()
    outside = not is_loopback(host)
    if outside and not keys and not no_key:
        raise UsageError(
            f"--host {host} lets others in: set UNDISTILL_API_KEY to a key of 16 characters or more, or take --no-key"
        )
    if no_key and keys:
        raise UsageError("UNDISTILL_API_KEY is set, and --no-key is without: take one of the two")
    for origin in cors or ():
        if not _ORIGIN.fullmatch(origin):
            raise UsageError(f"--cors {origin} is no origin: write it as https://example.com, or with a port behind it")
    limits = Limits(
        keys=keys,
        local=not outside and not keys and not no_key,
        origins=tuple(cors or ()),
        per_minute=rate or (600 if keys else None),
        bytes=round(megabytes * 1e6),
        pixels=round(megapixels * 1e6),
        seconds=timeout,
    )
    if engine is EngineName.local and replicas is not None:
        raise UsageError("--replicas goes with --engine ray")
    if engine is EngineName.ray and (pair is not None or len(devices or ()) > 1):
        raise UsageError("--pair and more than one --device don't go with --engine ray")
    check_engine(engine, address, None)
    from undistill.heads.head import shipped_heads

    shipped = ["flux1", *(name for name in shipped_heads() if name != "flux1")]
    words = "with a key" if keys else "WITHOUT A KEY, to everyone who reaches it" if outside else "this machine alone"

    def began(port: int) -> None:
        address = f"[{host}]" if ":" in host else host
        say(f"http://{address}:{port}/ ({words}; Ctrl-C ends)", err=outside and not keys)

    which = Which(heads or shipped, heads or shipped[:1], backend)
    with listen(host, port) as socket:  # before the heads are loaded, which takes a while
        free = socket.getsockname()[1]
        if engine is EngineName.local:
            left = _serve_here(socket, which, pair, devices, queue, limits, began)
    if engine is EngineName.ray:
        left = _serve_on_ray((host, free), which, devices, queue, limits, replicas, address, began)
    _tell(left)


def _tell(left: int) -> None:
    """Say the end, with how many requests were taken and not answered."""
    if left:
        say(f"ended; of what was taken, {left} not answered", err=True)
    else:
        say("ended; all that was taken is answered")


def _serve_here(
    socket: "sockets.socket",
    which: Which,
    pair: str | None,
    devices: list[str] | None,
    queue: int,
    limits: "Limits",
    began: Callable[[int], None],
) -> int:
    """Requests that were taken, and not answered."""
    from undistill.base.device import pick_device
    from undistill.base.web import Server
    from undistill.pairs.spec import read_spec
    from undistill.serve.app import make_app
    from undistill.serve.guard import log_to_stderr
    from undistill.serve.heads import check_name, place_head, read_heads
    from undistill.serve.pair import ServedPair
    from undistill.serve.work import Work

    places = [pick_device(name) for name in devices or ("auto",)]
    spec = None if pair is None else read_spec(pair)
    if spec is not None:
        check_name(spec.name, f"--pair {pair}: its name")
    heads = which.heads
    if spec is not None and spec.head is not None and spec.head not in heads:
        heads = [*heads, spec.head]
    work = Work(read_heads(heads, places, which.backend, which.timed), places, queue)
    drawn = None
    if spec is not None:
        from undistill.pairs.generator import Generator  # it brings diffusers, for which others needn't wait

        own = work.heads[place_head(spec.head)[0]] if spec.head is not None else None
        drawn = ServedPair(Generator(spec, places[0]), own, work)
    log_to_stderr(QUIET.get())
    began(socket.getsockname()[1])
    server = Server(make_app(work, limits, drawn), socket, work.close, seconds=limits.seconds + 5)
    server.serve_on()
    work.end()
    if server.force_exit:  # threads that are at work would be waited for
        _tell(work.left)
        sys.stdout.flush()
        os._exit(128 + signal.SIGINT)
    return work.left


def _serve_on_ray(
    at: tuple[str, int],
    which: Which,
    devices: list[str] | None,
    queue: int,
    limits: "Limits",
    replicas: int | None,
    address: str | None,
    began: Callable[[int], None],
) -> int:
    """Requests that were taken, and not answered."""
    import torch

    from undistill.serve.heads import ServedHead, read_heads
    from undistill.serve.ray import serve_on_ray

    def read(on_gpu: bool) -> list[ServedHead]:  # there, which need not be here
        backend = "torch" if on_gpu and which.backend == "auto" else which.backend
        return read_heads(which.heads, [torch.device("cpu")], backend, which.timed)

    device = devices[0] if devices else None
    return serve_on_ray(read, queue, limits, at, replicas, device, address, lambda: began(at[1]), QUIET.get())


def _keys() -> tuple[str, ...]:
    from undistill.base.settings import check_key

    keys = tuple(filter(None, re.split(r"[,\s]+", os.environ.get("UNDISTILL_API_KEY", ""))))
    for key in keys:
        check_key(key)
    if any(len(key) < 16 for key in keys):
        raise UsageError("UNDISTILL_API_KEY: a key has 16 characters or more (openssl rand -hex 16 makes one)")
    return keys
