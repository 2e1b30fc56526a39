"""How every command ends: what goes wrong is one line and an exit code."""

import errno
import os
import re
import sys

import typer

from undistill.base.errors import Failure, UsageError


def run(app: typer.Typer) -> None:
    """Run it; exit code 2 for usage, 1 for failure, 130 for an interrupt."""
    try:
        if any(word == "" or re.fullmatch(r"--[\w-]+=", word) for word in sys.argv[1:]):
            raise UsageError("an argument is empty: is a variable not set?")  # it would mean the working folder
        code = app(standalone_mode=False)
        if code == 130:  # what typer makes of a KeyboardInterrupt; older versions: an Abort
            raise KeyboardInterrupt
        raise SystemExit(code)
    except UsageError as error:
        _exit(error, 2)
    except Failure as error:
        _exit(error, 1)
    except (KeyboardInterrupt, typer.Abort):
        _exit("interrupted; the same command goes on", 130)
    except BrokenPipeError:
        os._exit(1)  # whoever read our output is gone: nobody to tell
    except OSError as error:
        hint = (
            "free some space, then run the same command again" if error.errno == errno.ENOSPC else "look at its rights"
        )
        _exit(f"{error.filename or 'a file'}: {error.strerror or error}; {hint}", 1)
    except Exception as error:
        # What typer finds wrong with the options comes in classes that differ between its versions.
        if not hasattr(error, "format_message"):
            raise
        _exit(f"{error.format_message()} See --help.", 2)


def _exit(message: object, code: int) -> None:
    typer.echo(f"undistill: {message}", err=True)
    raise SystemExit(code)
