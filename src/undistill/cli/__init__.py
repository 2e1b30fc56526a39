"""The command line: one file a verb."""

import errno
import os

import typer

from undistill.cli.enhance import enhance
from undistill.cli.evaluate import evaluate
from undistill.cli.generate import generate
from undistill.cli.train import train
from undistill.errors import Failure, UsageError

app = typer.Typer(
    help="Give the portraits of distilled text-to-image models back what distillation took.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(generate)
app.command()(enhance)
app.command()(train)
app.command()(evaluate)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        from undistill import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run a verb; what goes wrong is one line, exit code 2 for usage, 1 for failure, 130 for an interrupt."""
    try:
        raise SystemExit(app(standalone_mode=False))
    except UsageError as error:
        _end(error, 2)
    except Failure as error:
        _end(error, 1)
    except KeyboardInterrupt:
        _end("interrupted; the same command goes on", 130)
    except BrokenPipeError:
        os._exit(1)  # whoever read our output is gone: nobody to tell
    except OSError as error:
        hint = (
            "free some space, then run the same command again" if error.errno == errno.ENOSPC else "look at its rights"
        )
        _end(f"{error.filename or 'a file'}: {error.strerror or error}; {hint}", 1)
    except Exception as error:
        # What typer finds wrong with the options comes in classes that differ between its versions.
        if not hasattr(error, "format_message"):
            raise
        _end(f"{error.format_message()} See undistill --help.", 2)


def _end(message: object, code: int) -> None:
    typer.echo(f"undistill: {message}", err=True)
    raise SystemExit(code)
