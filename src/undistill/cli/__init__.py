"""The command line: one file a verb."""

from typing import Any

import typer
from typer.core import TyperGroup

from undistill.base.command import run
from undistill.base.machine import keep_memory
from undistill.base.output import QUIET
from undistill.cli.bench import bench
from undistill.cli.card import card
from undistill.cli.demo import demo
from undistill.cli.diversity import diversity
from undistill.cli.doctor import doctor
from undistill.cli.enhance import enhance
from undistill.cli.evaluate import evaluate
from undistill.cli.export import export
from undistill.cli.fit import fit
from undistill.cli.generate import generate
from undistill.cli.judge import judge
from undistill.cli.pairs import pairs
from undistill.cli.prompts import prompts
from undistill.cli.recipes import recipes
from undistill.cli.reproduce import reproduce
from undistill.cli.serve import serve
from undistill.cli.sweep import sweep
from undistill.cli.train import train


class _Verbs(TyperGroup):
    """--quiet may stand behind the verb too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        if "--quiet" in options:
            args = ["--quiet", *(word for word in options if word != "--quiet"), *args[len(options) :]]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Verbs,
    help="Give the portraits of distilled text-to-image models back what distillation took.",
    context_settings={"help_option_names": ["-h", "--help"]},  # of the verbs, too
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(demo)
app.command()(fit)
app.command()(prompts)
app.command()(generate)
app.add_typer(pairs, name="pairs")
app.command()(enhance)
app.command()(export)
app.command()(train)
app.command()(recipes)
app.add_typer(sweep, name="sweep")
app.command()(evaluate)
app.command()(card)
app.command()(diversity)
app.command()(bench)
app.command()(serve)
app.command()(judge)
app.command()(reproduce)
app.command()(doctor)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version."),
    quiet: bool = typer.Option(False, "--quiet", help="No bars, and no line at the end: results and errors alone."),
) -> None:
    if version:
        from undistill import __version__

        typer.echo(__version__)
        raise typer.Exit
    if quiet:
        QUIET.set(True)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run a verb."""
    keep_memory()
    run(app)
