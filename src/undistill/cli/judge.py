"""undistill judge"""

from pathlib import Path
from typing import Annotated

import typer

from undistill.base.errors import UsageError
from undistill.base.lock import locked_file
from undistill.base.output import say
from undistill.cli.options import OverwriteOption, check_ours, named_folder, refuse_others


def judge(
    sides: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=DIR NAME=DIR", help="Two folders of images, and their names.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The file of answers (JSONL).")] = Path("answers.jsonl"),
    summary: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Print what a file of answers comes to; may be repeated, a judge a file."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the page as one file for others, and end.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask about so many pairs, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order and the sides.")] = 0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page, on this machine alone; 0: any.")] = 8765,
    overwrite: OverwriteOption = False,
) -> None:
    """Let people judge: which of two pictures looks more like a photograph?

    Files of one name are a pair. The page shows them blind, in random order. Run it again to go on; when all are
    judged it prints who won.
    """
    from undistill.judge.answers import AnswerFile, read_answers, summarise, to_text
    from undistill.judge.study import QUESTION, make_study

    if summary:
        if sides or export:
            raise UsageError("--summary takes no folders and exports nothing: leave them out")
        typer.echo(to_text(summarise([read_answers(path) for path in summary])))
        return
    if overwrite and export is None:
        raise UsageError("--overwrite goes with --export: answers are never replaced")
    for path in (out, export):
        if path is not None and path.is_dir():
            raise UsageError(f"{path} is a folder: name a file")
    study = make_study(_folders(sides or []), seed, limit)
    for name, count in study.alone.items():
        typer.echo(f"{name}: {count} without a partner left out", err=True)

    from undistill.report.judge import live_page, write_export

    if export is not None:
        check_ours(export, QUESTION)
        same = study.id.encode()
        refuse_others(export, lambda: [] if same in export.read_bytes() else ["pictures"], overwrite=overwrite)
        write_export(study, export)
        say(f"{len(study.questions)} pairs -> {export}")
        return
    with locked_file(out):
        answers = AnswerFile(out, study)
        if not answers.finished:
            try:
                from undistill.judge.server import HOST, make_server
            except ImportError as error:
                raise UsageError(
                    f"the live page needs {error.name}: pip install 'undistill[serve]'; --export needs nothing more"
                ) from None
            server = make_server(answers, lambda: live_page(answers), port)
            typer.echo(f"http://{HOST}:{server.port}/ (Ctrl-C ends; every answer is in {out})")
            server.serve_on()
    typer.echo(to_text(summarise([read_answers(out)])))


def _folders(sides: list[str]) -> dict[str, Path]:
    folders = dict(map(named_folder, sides))
    if len(sides) != 2 or len(folders) != 2 or len({path.resolve() for path in folders.values()}) != 2:
        raise UsageError("give two folders with different names: NAME=DIR NAME=DIR")
    return folders
