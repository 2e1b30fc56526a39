"""What `undistill enhance` takes beside the head: what is done to a picture, and what it then says of itself."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from undistill.base.errors import UsageError

if TYPE_CHECKING:
    from undistill.enhance.change import Change
    from undistill.enhance.provenance import Label

    MakeLabel = Callable[[Mapping[str, str]], Label | None]
    """From what the record says of a head."""

WhereOption = Annotated[
    Literal["all", "face"], typer.Option(help="face: the faces alone, softly; all else stays pixel for pixel.")
]
FeatherOption = Annotated[
    float, typer.Option(min=0, max=1, help="How far beyond a face its mask may end, in heights of the face.")
]
NoFaceOption = Annotated[
    Literal["whole", "keep", "fail"],
    typer.Option(help="With --where face, an image without one: enhance all of it, keep it as it is, or fail."),
]
MasksOption = Annotated[
    Path | None,
    typer.Option("--mask", metavar="DIR", help="Masks of your own: PNGs of the images' names, white where to enhance."),
]
KeepIdentityOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Lower the strength of an image until its faces' embeddings stay this near: 0.97."),
]
GeneratedOption = Annotated[
    bool, typer.Option("--generated", help="These were generated, even if their metadata don't say so.")
]
ProvenanceOption = Annotated[
    bool, typer.Option("--provenance/--no-provenance", help="Say in the files how they were made.")
]
C2paCertOption = Annotated[
    Path | None, typer.Option(metavar="PEM", help="Sign manifests (C2PA) with this certificate and its chain.")
]
C2paKeyOption = Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")]


def read_change(
    strength: float,
    where: Literal["all", "face"],
    feather: float,
    no_face: Literal["whole", "keep", "fail"],
    masks: Path | None,
    keep_identity: float | None,
    here: bool,
) -> "Change":
    """Args:
        here: faces are found on this machine, not on a service's.

    Raises:
        UsageError: options that don't go together, or a folder of masks that is none.
        Failure: dlib, which finds faces, is not installed.
    """
    from undistill.enhance.change import Change
    from undistill.enhance.faces import FEATHER

    if masks is not None and where == "face":
        raise UsageError("give either --where face or --mask")
    if where == "all" and (feather != FEATHER or no_face != "whole"):
        raise UsageError("--feather and --no-face go with --where face")
    if masks is not None and not masks.is_dir():
        raise UsageError(f"--mask {masks} is no folder")
    wanted = Change(strength, where, feather, no_face, keep_identity)
    if here and wanted.finds_faces:
        from undistill.faces import models

        models()  # now, rather than at each image
    return wanted


def read_label(generated: bool, provenance: bool, chain: Path | None, key: Path | None, engine: str) -> "MakeLabel":
    """Raises:
    UsageError: options that don't go together, or a certificate that doesn't do.
    Failure: c2pa-python is not installed.
    """
    from undistill.enhance.provenance import Label, check_asked

    check_asked(generated, provenance)
    if not provenance and (chain or key):
        raise UsageError("--c2pa-cert doesn't go with --no-provenance")
    if (chain is None) != (key is None):
        raise UsageError("--c2pa-cert and --c2pa-key go together")
    if chain is not None and engine == "ray":
        raise UsageError("--c2pa-key stays on this machine: it doesn't go with --engine ray")
    credentials = None
    if chain is not None and key is not None:
        from undistill.enhance.credentials import read_credentials

        credentials = read_credentials(chain, key)

    def label(made_with: Mapping[str, str]) -> "Label | None":
        if not provenance:
            return None
        from undistill.heads.head import head_name

        return Label(head_name(made_with["head"]), made_with["weights"], generated, credentials)

    return label
