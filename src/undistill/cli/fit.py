"""undistill fit"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from undistill.base.errors import UsageError
from undistill.base.lock import locked
from undistill.base.output import console, say
from undistill.cli.options import call_verb

if TYPE_CHECKING:
    from undistill.fit import Request


def fit(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for all that is made; index.html is the page.")],
    pair: Annotated[
        str | None, typer.Option(help="A shipped pair (tiny, flux1), or a pair spec (YAML): what draws the pairs.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Begin later: with a pairs data set, or else:")] = None,
    student: Annotated[Path | None, typer.Option(help="Folder of student images.")] = None,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="Folder of teacher images, of whomever; may be repeated.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Pairs.  [default: as quality and budget say]")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="From now on, e.g. 8h or 15m.  [default: as long as it takes]")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Of the prompts; {name} is the name.  [default: A professional portrait of {name}]",
        ),
    ] = None,
    names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names, as of `undistill prompts`.  [default: Faker's]")
    ] = None,
    quality: Annotated[
        Literal["draft", "good", "best"],
        typer.Option(
            help="256 pairs and a quarter of the recipe's steps, 200 at most; 4,096 and all; 16,384 and twice as many."
        ),
    ] = "good",
    plan: Annotated[bool, typer.Option("--plan", help="Say what it takes, and stop there.")] = False,
) -> None:
    """Make a head of your own: draw pairs, train, measure, and say what it is worth.

    Prints a plan first. Each stage is a command that you could type. Run it again to go on, and with a larger --count
    or another --budget to go on from what is there.
    """
    request = _request(pair, data, student, teacher, count, budget, domain, names, quality)
    if plan:
        _show_plan(request, out)
        return

    from undistill.fit import PAGE
    from undistill.fit import fit as run
    from undistill.fit.facts import show_facts

    with locked(out):
        outcome = run(
            request, out, call_verb, lambda text: say(text, err=True), lambda facts: show_facts(facts, console())
        )
    typer.echo(outcome.verdict.says)
    if outcome.verdict.experimental and outcome.next_up:
        instead = f"; take the filter {outcome.verdict.instead} instead" if outcome.verdict.instead else ""
        typer.echo(f"The head is kept, as an experiment{instead}.")
    for command in outcome.next_up:
        say(f"  {command}")
    say(out / PAGE)


def _request(
    pair: str | None,
    data: Path | None,
    student: Path | None,
    teacher: list[Path] | None,
    count: int | None,
    budget: str | None,
    domain: str | None,
    names: Path | None,
    quality: Literal["draft", "good", "best"],
) -> "Request":
    if sum((pair is not None, data is not None, bool(student or teacher))) != 1 or bool(student) != bool(teacher):
        raise UsageError("give --pair; or, to begin later, --data (a pairs data set), or --student and --teacher")
    if pair is None and (count is not None or names is not None or domain is not None):
        raise UsageError("--count, --names and --domain go with --pair: the images are there")
    if names is not None and not names.is_file():
        raise UsageError(f"--names {names}: there is no such file")

    from undistill.fit import TEMPLATE, Request, contents_of, read_budget
    from undistill.steps import pair_anywhere

    request = Request(
        pair=None if pair is None else pair_anywhere(pair)[1],
        data=None if data is None else str(data.resolve()),
        student=None if student is None else str(student.resolve()),
        teacher=[str(folder.resolve()) for folder in teacher or ()],
        domain=domain or TEMPLATE,
        names=None if names is None else str(names.resolve()),
        quality=quality,
        count=count,
        budget=None if budget is None else read_budget(budget),
    )
    return replace(request, contents=contents_of(request))


def _show_plan(request: "Request", out: Path) -> None:
    from undistill.fit import planned
    from undistill.fit.evidence import known_pair_seconds
    from undistill.fit.facts import gpu_table, show_facts
    from undistill.pairs.plan import show

    facts, made, steps = planned(request, out)
    if made is not None:
        show(made, console())
        console().print()
    show_facts(facts, console())
    if made is not None and made.gpus:
        console().print()
        gpu_table(made, steps).show(console())
        typer.echo("Times, memory and batches are computed, none of it is measured on a GPU.")
    known = None if made is None else known_pair_seconds(made.spec.name)
    if known is not None and made is not None:
        typer.echo(f"Speed: {known[0]:g} s a pair was measured elsewhere, by {known[1]}.")
    typer.echo(
        f"Training: {steps:,} steps. Nothing was drawn, downloaded or written. Without --plan the first pairs are "
        "drawn and a few steps timed, and the plan says when it will be done."
    )
