"""The command line: one file a verb."""

import typer

from undistill.base.command import run
from undistill.cli.bench import bench
from undistill.cli.demo import demo
from undistill.cli.diversity import diversity
from undistill.cli.enhance import enhance
from undistill.cli.evaluate import evaluate
from undistill.cli.generate import generate
from undistill.cli.judge import judge
from undistill.cli.pairs import pairs
from undistill.cli.prompts import prompts
from undistill.cli.recipes import recipes
from undistill.cli.reproduce import reproduce
from undistill.cli.sweep import sweep
from undistill.cli.train import train

app = typer.Typer(
    help="Give the portraits of distilled text-to-image models back what distillation took.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(demo)
app.command()(prompts)
app.command()(generate)
app.add_typer(pairs, name="pairs")
app.command()(enhance)
app.command()(train)
app.command()(recipes)
app.add_typer(sweep, name="sweep")
app.command()(evaluate)
app.command()(diversity)
app.command()(bench)
app.command()(judge)
app.command()(reproduce)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        from undistill import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run a verb."""
    run(app)
