"""sweep.db: what a sweep keeps with Optuna (SQLite). A study is one of the sweep's, a trial a cell of its grid.

Of Optuna a sweep takes which cells there are, which of them are begun or done, and a database that processes share. A
product of lists, the lock that each cell has already and a JSON file in its run folder would do the same: nothing is
suggested or pruned by what was found. It stays because sweeps that were begun with it must go on; who changes the
format may leave it out, and the extra `sweep` with it.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import DBAPIError

from undistill.base.errors import Failure, UsageError, first_line

DATABASE = "sweep.db"
_WAITS_S = 60
"""For another process that writes."""
_MACHINES = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM,
)  # fmt: skip
"""What says nothing of the database, but of the disk and of who is at it."""
_STATES = {TrialState.RUNNING: "running", TrialState.COMPLETE: "done", TrialState.FAIL: "diverged"}


@contextmanager
def reading(out: Path) -> Iterator[None]:
    """What goes wrong with the database inside is one line; nothing else should be done there.

    Raises:
        UsageError: it is broken, or not as a sweep wrote it.
        Failure: the machine's.
    """
    file = out.resolve() / DATABASE
    try:
        yield
    except (OSError, MemoryError):  # of a lock, with its path; and what no database is to blame for
        raise
    except Exception as error:  # of SQLite, of SQLAlchemy, and whatever Optuna stumbles over in what it holds
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        reason = first_line((cause.orig if isinstance(cause, DBAPIError) else cause) or error)
        code = getattr(cause.orig, "sqlite_errorcode", None) if isinstance(cause, DBAPIError) else None
        if isinstance(code, int) and code & 0xFF in _MACHINES:  # above are the details
            raise Failure(f"{file} can't be used: {reason}; with that put right, the same command goes on") from error
        raise UsageError(
            f"{file} is broken ({reason}): take it away, and the same `undistill sweep run` makes it anew from the "
            "runs of the cells"
        ) from error


def begin(out: Path, studies: Iterable[str]) -> None:
    """Make the database, if need be, and its studies."""
    with reading(out):
        storage = _storage(out)
        for name in studies:
            optuna.create_study(
                study_name=name, storage=storage, directions=["minimize", "maximize"], load_if_exists=True
            )


def load(out: Path, name: str, grid: Mapping[str, Sequence[Any]]) -> optuna.Study:
    """A study, which chooses among the cells of the grid."""
    with reading(out):
        sampler = optuna.samplers.GridSampler(grid, seed=0)
        try:
            return optuna.load_study(study_name=name, storage=_storage(out), sampler=sampler)
        except KeyError as error:
            raise ValueError(f"it lacks the study {name}") from error


def _storage(out: Path) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    waiting = {"connect_args": {"timeout": _WAITS_S}}
    return optuna.storages.RDBStorage(f"sqlite:///{out.resolve() / DATABASE}", engine_kwargs=waiting)


@contextmanager
def free_cell(study: optuna.Study, cells: int, out: Path) -> Iterator[Trial | None]:
    """A cell that nobody else works on, until the end of the block: one that was left half done, or a new one.

    Args:
        cells: how many there are.
        out: the sweep's folder.
    """
    folder = out / study.study_name
    folder.mkdir(exist_ok=True)
    locks = {number: FileLock(folder / f".{number}.lock") for number in range(cells)}
    trial = None
    with FileLock(folder / ".lock"), reading(out):  # one at a time chooses
        for left in study.get_trials(states=(TrialState.RUNNING,)):
            with suppress(Timeout):
                locks[left.number].acquire(blocking=False)
                if study.trials[left.number].state == TrialState.RUNNING:  # it may just have been told of
                    trial = Trial(study, left._trial_id)
                    break
                locks[left.number].release()
        if trial is None and len(study.trials) < cells:
            trial = study.ask()
            locks[trial.number].acquire()
    try:
        yield trial
    finally:
        if trial is not None:
            locks[trial.number].release()


def tell(study: optuna.Study, trial: Trial, scores: Mapping[str, float], out: Path) -> None:
    """Note what a cell came to; one whose scores are not finite has diverged."""
    values = [scores["val_loss"], scores["val_ssim"]]
    with reading(out):
        for name, value in scores.items():
            trial.set_user_attr(name, value if isfinite(value) else None)
        # At the last cell the sampler stops the study's loop, of which there is none here: Optuna says to catch it.
        with suppress(RuntimeError):
            if all(map(isfinite, values)):
                study.tell(trial, values)
            else:
                study.tell(trial, state=TrialState.FAIL)


def found(trial: FrozenTrial | None) -> dict[str, Any]:
    """A cell's state and figures, as `undistill.training.sweep.results` gives them.

    Raises:
        ValueError: the database holds something else.
    """
    told = trial.user_attrs if trial and trial.state == TrialState.COMPLETE else {}
    row = {
        "step": told.get("step"),
        "loss": told.get("val_loss"),
        "ssim": told.get("val_ssim"),
        "ssim_cycle": told.get("val_ssim_cycle"),
    }
    for name, value in row.items():
        if type(value) not in (int, float, type(None)):
            raise ValueError(f"{name} is no number")
    return {"state": _STATES[trial.state] if trial else "waiting", **row}
