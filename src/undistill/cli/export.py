"""undistill export"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from undistill.base.errors import UsageError
from undistill.base.output import say
from undistill.cli.options import check_ours


def export(
    head: Annotated[str, typer.Argument(help="A shipped head, a folder, or a Hugging Face id.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A file: .onnx, or .xml for OpenVINO.")],
    form: Annotated[
        Literal["onnx", "openvino"] | None, typer.Option("--format", help="[default: by the file's ending]")
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"],
        typer.Option(help="fp16, bf16: of the weights. int8: of the convolutions."),
    ] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Portraits for int8.  [default: those of the package]")
    ] = None,
) -> None:
    """Write a head for other programs: a graph that takes and gives (1, 3, height, width) in [-1, 1].

    It is compared with torch's float32 on the portraits that come with the package, and not written if it differs.
    """
    endings = {"onnx": ".onnx", "openvino": ".xml"}
    if form is None:
        form = "openvino" if out.suffix.lower() == ".xml" else "onnx"
    if out.suffix.lower() != endings[form]:
        raise UsageError(f"{out}: a file of {form} ends with {endings[form]}")
    if calibrate is not None and precision != "int8":
        raise UsageError("--calibrate goes with --precision int8")
    if calibrate is not None and not calibrate.is_dir():
        raise UsageError(f"{calibrate} is no folder")
    if out.is_dir():
        raise UsageError(f"{out} is a folder: name a file")

    from undistill.enhance.export import MARK
    from undistill.enhance.export import export as run
    from undistill.heads import Head
    from undistill.heads.head import head_folder, head_hash, head_name

    check_ours(out, MARK)
    weights = out.with_suffix(".bin")
    if form == "openvino" and weights.exists() and not (out.is_file() and out.stat().st_size):
        raise UsageError(f"{weights}, where the weights go, is there and not made by this command: give another name")
    folder = head_folder(head)
    names = {"head": head_name(head), "weights": head_hash(folder)}
    made = run(Head.from_pretrained(folder), names, out, form, precision, calibrate)
    say(f"{head} in {precision}, {made.psnr:.1f} dB from torch's float32 on {made.portraits} portraits -> {out}")
