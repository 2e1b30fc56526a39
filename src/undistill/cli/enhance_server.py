"""undistill enhance --server: what asks a service, in place of what enhances here."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from undistill.base.errors import UsageError

if TYPE_CHECKING:
    from undistill.client import Client
    from undistill.enhance.bytes import Enhanced
    from undistill.enhance.jobs import EnhanceJob

REQUESTS = 4
"""At a time, unless told."""


def check_server(server: str | None, here: object) -> None:
    """Raises:
    UsageError: it is to be done there, and something of it here.
    """
    if server is not None and here:
        raise UsageError(
            "--server does it there: leave out --folds, --mask, --c2pa-cert, --device, --backend, --engine, and -o -"
        )


def asking(
    jobs: list["EnhanceJob"], server: str, head: str | None
) -> "tuple[list[EnhanceJob], Callable[[], Client], dict[str, str]]":
    """The jobs, a client for them, and what the record says of the service's head: the same as of one here."""
    from undistill.client import Client

    client = Client(server)
    heads = {known["name"]: known["hash"] for known in client.heads()}
    chosen = next(iter(heads)) if head is None else head
    if chosen not in heads:
        raise UsageError(f"{server} has no head {chosen!r}: take one of {', '.join(heads)}")
    return jobs, lambda: client, {"head": chosen, "weights": heads[chosen]}


def remake(server: str | None, made_with: dict[str, str]) -> Callable[..., "Enhanced"]:
    """What makes a file of a file."""
    if server is None:
        from undistill.enhance.bytes import enhance_bytes

        return enhance_bytes
    from undistill.client import enhance_remotely

    return partial(enhance_remotely, head=made_with)
