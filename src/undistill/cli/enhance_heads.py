"""Which head enhances which images of `undistill enhance`, and what runs it: a backend here, or a service."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undistill.base.errors import UsageError
from undistill.cli.options import AnyBackend

if TYPE_CHECKING:
    from undistill.enhance.backends import BackendName
    from undistill.enhance.bytes import Enhanced
    from undistill.enhance.enhancer import Enhancer
    from undistill.enhance.jobs import EnhanceJob

    Part = tuple[list[EnhanceJob], Callable[[], Any], dict[str, str]]
    """Jobs, what makes their enhancer or the client that asks for it, and what the record says of its head."""


@dataclass(frozen=True)
class Choice:
    """What runs heads: what was asked, the strength, the record's entries of what is there, how many images wait."""

    asked: AnyBackend
    strength: float
    entries: Iterable[Mapping[str, Any]]
    images: int

    def of(self, folder: Path, weights: str, device: str | None) -> "BackendName":
        """The backend of a head."""
        if self.asked != "auto":
            return self.asked
        for entry in self.entries:
            if entry.get("weights") == weights:
                kept: BackendName = entry.get("backend", "torch")
                return kept
        if self.strength == 0 or device is None:  # nothing is run; or who knows where
            return "torch"
        from undistill.base.device import pick_device
        from undistill.enhance.backends.table import fastest
        from undistill.heads import Head

        return fastest(Head.from_pretrained(folder), pick_device(device), self.images)


def parts_of(
    jobs: list["EnhanceJob"], head: str, folds: Path | None, device: str | None, choice: Choice
) -> "Iterator[Part]":
    """The jobs of each head."""
    if folds is None:
        yield jobs, *maker(head, device, choice)
        return
    from undistill.dataset import within
    from undistill.enhance.folds import read_folds

    for fold in read_folds(folds):
        enhancer, made_with = maker(str(fold.head), device, choice)
        yield [job for job in jobs if within(job.source.stem, fold.ids)], enhancer, made_with | {"fold": fold.name}


def asking(jobs: list["EnhanceJob"], server: str, head: str | None) -> "Iterator[Part]":
    """The jobs, a client for them, and what the record says of the service's head: the same as of one here."""
    from undistill.client import Client

    client = Client(server)
    heads = {known["name"]: known for known in client.heads()}
    chosen = next(iter(heads)) if head is None else head
    if chosen not in heads:
        raise UsageError(f"{server} has no head {chosen!r}: take one of {', '.join(heads)}")
    known = heads[chosen]
    yield jobs, lambda: client, _said(chosen, known["hash"], known.get("backend", "torch"))


def remake(server: str | None, made_with: dict[str, str]) -> Callable[..., "Enhanced"]:
    """What makes a file of a file."""
    if server is None:
        from undistill.enhance.bytes import enhance_bytes

        return enhance_bytes
    from undistill.client import enhance_remotely

    return partial(enhance_remotely, head=made_with)


def maker(head: str, device: str | None, choice: Choice) -> tuple["Callable[[], Enhancer]", dict[str, str]]:
    """What makes the enhancer, and what the record says of the head."""
    from undistill.enhance.enhancer import Enhancer
    from undistill.heads.head import head_folder, head_hash

    folder = head_folder(head).absolute()
    weights = head_hash(folder)
    backend = choice.of(folder, weights, device)
    return partial(Enhancer, folder, device, backend=backend), _said(head, weights, backend)


def _said(head: str, weights: str, backend: str) -> dict[str, str]:
    """What the record says of a head; that torch runs it goes without saying."""
    return {"head": head, "weights": weights} | ({} if backend == "torch" else {"backend": backend})
