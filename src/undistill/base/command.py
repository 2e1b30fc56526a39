"""How every command ends: what goes wrong is one line and an exit code."""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from undistill.base.errors import Failure, UsageError, first_line
from undistill.base.output import QUIET


def run(app: typer.Typer) -> None:
    """Run it; exit code 2 for usage, 1 for failure, 130 for Ctrl-C, 143 for SIGTERM."""
    loud = QUIET.set(False)
    try:
        with _terminated_as_interrupted() as terminated:
            _run(app, terminated)
    finally:
        QUIET.reset(loud)


@contextmanager
def _terminated_as_interrupted() -> Iterator[threading.Event]:
    """SIGTERM, by which systemd, Docker and Slurm end a job, is Ctrl-C; the event says which of the two it was."""
    terminated = threading.Event()

    def interrupt(*_: object) -> None:
        terminated.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield terminated
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(app: typer.Typer, terminated: threading.Event) -> None:
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
        _exit("interrupted; the same command goes on", 128 + (signal.SIGTERM if terminated.is_set() else signal.SIGINT))
    except BrokenPipeError:
        os._exit(1)  # whoever read our output is gone: nobody to tell
    except OSError as error:
        _exit(_explained(error), 1)
    except Exception as error:
        # What typer finds wrong with the options comes in classes that differ between its versions.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # it has printed the help
            raise SystemExit(0) from None
        _exit(f"{error.format_message()} See --help.", 2)


HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "; free some space, then run the same command again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "; look at its rights"),
}


def _explained(error: OSError) -> str:
    """The system's error with its file, and what to do; libraries have kinds of their own, which tell it in words."""
    if error.errno is None:
        return first_line(error)
    # Writers name their files; what names none was printed.
    return f"{error.filename or 'the output'}: {error.strerror or first_line(error)}{HINTS.get(error.errno, '')}"


def _exit(message: object, code: int) -> None:
    typer.echo(f"undistill: {message}", err=True)
    raise SystemExit(code)
