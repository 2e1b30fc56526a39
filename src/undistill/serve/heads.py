"""The heads that are served: what there is to say of them, and what runs them."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from undistill.base.errors import UsageError
from undistill.enhance.backends import BackendName
from undistill.enhance.backends.table import MANY, fastest
from undistill.heads import Head
from undistill.heads.head import head_folder, head_hash, head_name, shipped_heads


@dataclass(frozen=True)
class ServedHead:
    """A head that may be asked for.

    Args:
        name: as requests call it.
        hash: of configuration and weights: `head_hash`.
        backend: what runs it.
        about: what its card says, in Markdown: "summary" and "measured".
        facts: from its descriptor.
    """

    name: str
    folder: Path
    hash: str
    backend: BackendName
    about: dict[str, str]
    facts: dict[str, Any]

    def said(self) -> dict[str, Any]:
        """For those who ask which heads there are."""
        return {"name": self.name, "hash": self.hash, "backend": self.backend, **self.facts, **self.about}


def read_heads(
    texts: Sequence[str],
    devices: Sequence[torch.device],
    backend: BackendName | Literal["auto"] = "torch",
    timed: Collection[str] = (),
) -> list[ServedHead]:
    """Heads by what a user calls them.

    Args:
        texts: as `--head` takes them, or NAME=DIR.
        devices: where they are to run.
        backend: "auto": the fastest for each, as `undistill enhance` chooses.
        timed: of the texts, those for which it is worth timing; for others "auto" is what is known, or torch.

    Raises:
        UsageError: no such head, two of one name, or a name that can't be told.
    """
    folders: dict[str, tuple[str, Path]] = {}
    for text in texts:
        name, folder = place_head(text)
        check_name(name, f"--head {text}: the name")
        if name in folders:
            raise UsageError(f"--head: two are called {name}: write NAME=DIR")
        folders[name] = text, folder
    heads = []
    where = next((device for device in devices if device.type != "cpu"), devices[0])
    for name, (text, folder) in folders.items():
        head = Head.from_pretrained(folder)
        chosen = fastest(head, where, MANY if text in timed else 0) if backend == "auto" else backend
        described = head.descriptor
        facts = {
            "architecture": described.architecture,
            "parameters": described.parameters,
            "trained_at": described.trained_at,
            "gflop_512": described.gflop_512,
        }
        about = _about((folder / "README.md").read_text(encoding="utf-8")) if text in shipped_heads() else {}
        heads.append(ServedHead(name, folder.absolute(), head_hash(folder), chosen, about, facts))
    return heads


def check_name(name: str, what: str) -> None:
    """Raises:
    UsageError: the headers of an answer, and a query, can't hold it.
    """
    if not name.isprintable() or name.encode("latin-1", "replace").decode("latin-1") != name or name != name.strip():
        raise UsageError(f"{what} {name!r} can't stand in an answer's headers: give it one of Latin letters")


def place_head(text: str) -> tuple[str, Path]:
    """How a head is called in requests, and its folder.

    Raises:
        UsageError: no such head, or no name in NAME=DIR.
    """
    name, equals, place = text.partition("=") if not Path(text).is_dir() else (text, "", "")
    if equals and not (name and place):
        raise UsageError(f"--head {text}: write NAME=DIR")
    folder = head_folder(place if equals else text)
    if equals:
        return name, folder
    return head_name(text), folder


def _about(card: str) -> dict[str, str]:
    """A card's first words, and what it says was measured."""
    text = re.sub(r"<!--.*?-->", "", card.split("---\n", 2)[-1])  # where its figures are from
    _, _, text = text.partition("\n# ")
    summary = text.split("\n\n", 2)[1] if "\n\n" in text else ""
    _, _, measured = text.partition("\n## Measured\n")
    return {"summary": summary.strip(), "measured": measured.split("\n## ")[0].strip()}
