"""undistill generate"""

from pathlib import Path
from typing import Annotated

import typer

from undistill.base.errors import UsageError
from undistill.base.lock import locked
from undistill.base.output import say
from undistill.cli.options import DeviceOption, OffloadOption


def generate(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the images.")],
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT...", help="What to draw.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="A prompts.jsonl instead, with its ids and seeds; or a text file, a prompt a line.",
        ),
    ] = None,
    pair: Annotated[str, typer.Option(help="A shipped pair (tiny, flux1), or a pair spec (YAML).")] = "tiny",
    head: Annotated[
        str | None, typer.Option(help="A shipped head, a folder, or a Hugging Face id.  [default: the pair's]")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The student's images alone.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**62, help="Of the first PROMPT; the next have the next.  [default: 0]")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 4,
    device: DeviceOption = None,
    offload: OffloadOption = None,
) -> None:
    """Generate portraits with a pair's student, and enhance them.

    With a head: OUT/student/ID.png and OUT/enhanced/ID.png. Without: OUT/ID.png. Ids count from 000000.

    Run it again to go on: what is done is skipped.
    """
    from undistill.prompts import numbered, read_prompts

    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; -o takes a folder")
    if (file is None) == (not prompts):
        raise UsageError("give either prompts or --prompts FILE")
    if file is not None and seed is not None:
        raise UsageError("--seed is for prompts given here: FILE has its own")
    if raw and head is not None:
        raise UsageError("--raw is without a head: leave out one of the two")
    wanted = read_prompts(file) if file is not None else numbered(prompts or [], seed or 0)

    from undistill.base.device import pick_device
    from undistill.heads.head import head_folder, head_hash
    from undistill.pairs.files import generate_files
    from undistill.pairs.spec import read_spec
    from undistill.pipeline import Pipeline

    spec = read_spec(pair)
    where = pick_device(device)
    chosen = None if raw else head or spec.head
    student = {"pair": spec.name, "spec": spec.hash()}
    folders = {".": student}
    folder = None
    if chosen is not None:
        folder = head_folder(chosen)
        folders = {"student": student, "enhanced": {**student, "head": chosen, "weights": head_hash(folder)}}
    with locked(out):
        made, skipped = generate_files(
            wanted, out, folders, lambda: Pipeline(spec, folder or False, where, offload).stages, batch
        )
    what = f"student images of {spec.name}" if chosen is None else f"images of {spec.name}, enhanced by {chosen}"
    say(f"{made} {what}, {skipped} done before -> {out}")
