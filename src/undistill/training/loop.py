"""The loop that all ways of training share: order, logs, samples, early stop."""

import csv
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from tensorboardX import SummaryWriter
from torch.utils.data import DataLoader, Dataset, Sampler

from undistill.base.errors import Failure, UsageError, first_line, naming
from undistill.base.files import replacing
from undistill.base.progress import progress
from undistill.dataset.read import Consecutive
from undistill.images import write_grid
from undistill.training import ranks
from undistill.training.method import Batch, Losses, Method, train_step, validation_figures
from undistill.training.place import BEGUN, restore, save
from undistill.training.recipe import Schedule
from undistill.training.schedule import StepPlan

INTERRUPTS_EVERY = 8
"""Steps after which several ranks ask each other whether one was interrupted; one process asks after each."""
INTERRUPTED = {"interrupted": signal.SIGINT, "terminated": signal.SIGTERM}
"""Why a run stopped half-way, and the signal that did it."""


def start(recipe: Schedule, device: str) -> Fabric:
    """Fabric on a device ("auto", "cpu", "cuda", "cuda:1"), and the recipe's seed for what is built next."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # More loader processes than cores, which the recipe asks for: it may have been written for another machine.
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning, r"torch\.utils\.data\.dataloader")
    fabric = ranks.connect(device, recipe.precision)
    torch.manual_seed(recipe.seed)
    return fabric


def fit(
    fabric: Fabric,
    method: Method,
    recipe: Schedule,
    training: Dataset[Batch],
    validation: Dataset[Batch],
    run: Path,
    max_steps: int | None = None,
    *,
    workers: int = 0,
    patience: int | None = None,
) -> tuple[int, str]:
    """Train, going on from `run/last.safetensors` if it is there. The schedule is the recipe's, whatever `max_steps`.

    Args:
        training: its k-th item is the run's k-th, k = 0, 1, 2, ... without end; its length is that of an epoch.
        validation: as many items as its length.
        workers: loader processes.
        patience: stop after so many epochs without a lower `val_loss`; None: never.

    Returns: the step it stopped at, and why: "done", "early stop", "max steps" or one of `INTERRUPTED`.

    Raises:
        Diverged: a loss or a weight is not finite. What was saved before stays as it is.
    """
    plan = StepPlan.of(recipe, len(training), max_steps)  # type: ignore[arg-type]  # torch leaves __len__ out of Dataset
    state: dict[str, Any] = dict(BEGUN)
    if (run / "last.safetensors").exists():
        state = restore(method, run / "last.safetensors")
    start: int = state["step"]
    if state["stopped"]:
        return start, "early stop"
    if start >= plan.last:
        return start, "done" if start == plan.total else "max steps"
    method.prepare()

    writes = fabric.is_global_zero
    log = Log(run if writes else None, ("step", "epoch", "lr", *method.columns, *method.validation_columns), start)
    batches, held_out, samples = _loaders(fabric, recipe, plan, start, (training, validation), workers)
    watch = DivergenceWatch(method, run, start)
    words = ""

    with progress("training", plan.last, start, shown=writes) as bar, _interruptible() as signals, closing(log):
        for step in range(start, plan.last):
            rate = _set_rate(method, recipe.lr * method.schedule(step / plan.total))
            losses = train_step(method, list(islice(batches, recipe.accumulate)), step)
            done = state["step"] = step + 1
            watch.see(done, losses)
            if plan.looks(done):
                watch.check(done)
            values: dict[str, float] = {}
            if plan.logs(done) or step == start:  # only here does the step wait for the device
                means = _means(fabric, losses)
                words = " ".join(f"{name.removeprefix('loss_')} {loss:.3f}" for name, loss in means.items())
                values = {"lr": rate, **means} if plan.logs(done) else {}
            bar.advance(words)
            if plan.validates(done):
                figures = fabric.broadcast(validation_figures(method, held_out))
                values.update(figures)
                if _better(figures["val_loss"], state["best"]):
                    state.update(best=figures["val_loss"], best_step=done)
                    if writes:
                        save(method, state, run / "best.safetensors")
                state["stopped"] = patience is not None and done - state["best_step"] >= patience * plan.per_epoch
            if values:
                log.write(done, {"epoch": done / plan.per_epoch, **values})
            if writes and plan.samples(done):
                write_grid(method.sample(samples), run / "samples" / f"{done:07d}.png")
            stop = 0
            if fabric.world_size == 1 or plan.looks(done) or done % INTERRUPTS_EVERY == 0:
                stop = ranks.most(fabric, max(signals, default=0))
            if plan.saves(done) or state["stopped"] or stop:
                watch.check(done)
                if writes:
                    save(method, state, run / "last.safetensors")
                watch.saved = done
            if state["stopped"]:
                return done, "early stop"
            if stop:  # in the last step, too: whoever asked means what comes after it as well
                return done, next(why for why, number in INTERRUPTED.items() if number == stop)
    return plan.last, "done" if plan.last == plan.total else "max steps"


def _loaders(
    fabric: Fabric,
    recipe: Schedule,
    plan: StepPlan,
    start: int,
    data: tuple[Dataset[Batch], Dataset[Batch]],
    workers: int,
) -> tuple[Iterator[Batch], "Batches", Batch]:
    """This rank's share of what is left to train on and of what is validated on, and the images of sample grids."""
    training, validation = data
    per_step = recipe.batch * recipe.accumulate
    here = (fabric.global_rank, fabric.world_size)
    order = Consecutive(start * per_step, plan.last * per_step, ranks.rank_batch(fabric, recipe.batch), *here)
    rows = Consecutive(0, len(validation), recipe.batch, *here)  # type: ignore[arg-type]
    batches = load_batches(fabric, training, ranks.rank_batch(fabric, recipe.batch), order, workers)
    held_out = load_batches(fabric, validation, recipe.batch, rows, workers)
    return iter(batches), held_out, next(iter(load_batches(fabric, validation, 6)))


def _means(fabric: Fabric, losses: Losses) -> dict[str, float]:
    values = ranks.mean(fabric, torch.stack(list(losses.values())))
    return dict(zip(losses, values.tolist(), strict=True))


def _set_rate(method: Method, rate: float) -> float:
    for optimizer in method.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate
    return rate


def _better(loss: float, best: float | None) -> bool:
    return isfinite(loss) and (best is None or not isfinite(best) or loss < best)


class Log:
    """`metrics.csv` and TensorBoard events. What a killed run wrote after its last checkpoint is dropped.

    Args:
        run: None: nothing is written.

    Raises:
        UsageError: the file is none of ours.
    """

    def __init__(self, run: Path | None, columns: tuple[str, ...], start: int) -> None:
        self.board: SummaryWriter | None = None
        if run is None:
            return
        self.path = run / "metrics.csv"
        self.columns = columns
        rows = self._rows(start) if self.path.exists() else []
        with replacing(self.path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        with naming(run):
            self.board = SummaryWriter(str(run), purge_step=start + 1)

    def _rows(self, start: int) -> list[dict[str, str]]:
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                lines = csv.DictReader(file)
                rows = [row for row in lines if int(row["step"]) <= start]
                if not set(lines.fieldnames or ()) <= set(self.columns) or any(None in row for row in rows):
                    raise ValueError("other columns than the run's")
        except (ValueError, KeyError, TypeError, csv.Error) as error:  # a UnicodeDecodeError is a ValueError
            reason = "no column step" if isinstance(error, KeyError) else first_line(error)
            raise UsageError(
                f"{self.path} is not as the run wrote it ({reason}): put it back, or take it away, and the same "
                "command goes on without its rows"
            ) from error
        return rows

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add a row to metrics.csv, and its values to the events."""
        if self.board is None:
            return
        with naming(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(
                {"step": step, **{name: f"{value:.6g}" for name, value in values.items()}}
            )
        with naming(self.path.parent):  # in which TensorBoard's files have names of its own
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
            self.board.flush()

    def close(self) -> None:
        """Close the events."""
        if self.board is not None:
            with naming(self.path.parent):
                self.board.close()


def load_batches(
    fabric: Fabric, data: Dataset[Batch], batch: int, order: Sampler[int] | None = None, workers: int = 0
) -> "Batches":
    """Batches on the device, one after another, as often as they are iterated over.

    Args:
        order: None: as they are.
        workers: processes; 0: this one.
    """
    loader = DataLoader(
        data,
        batch,
        sampler=order,
        num_workers=workers,
        pin_memory=fabric.device.type == "cuda",
        persistent_workers=workers > 0,
        worker_init_fn=_leave_interrupts_to_the_loop,
        # In the processes of a sweep, which are spawned, torch would spawn loaders, each importing all anew.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    return Batches(cast(Iterable[Batch], fabric.setup_dataloaders(loader, use_distributed_sampler=False)))


class Batches:
    """A loader whose errors have one line again: torch wraps those of its processes into whole tracebacks."""

    def __init__(self, loader: Iterable[Batch]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        try:
            yield from self.loader
        except (UsageError, Failure) as error:
            last = str(error).strip().splitlines()[-1]
            raise type(error)(last.removeprefix(f"{type(error).__module__}.{type(error).__qualname__}: ")) from error


def _leave_interrupts_to_the_loop(_worker: int) -> None:
    """The step that the loop ends needs its loaders: Ctrl-C reaches all of a terminal, SIGTERM all of a Slurm step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS has none
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_loop_says, daemon=True).start()


def _end_when_the_loop_says() -> None:
    # Python ends its processes by SIGTERM, and waits for them: deaf to it they would hang it.
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM let the step end, so that a whole state is saved; the list has those that came."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, lambda which, _: came.append(which)) for number in INTERRUPTED.values()}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Diverged(Failure):
    """Losses or weights are no longer numbers."""


class DivergenceWatch:
    """Looks out for losses and weights that are not finite, without a wait for the device in each step.

    Args:
        saved: the step of `last.safetensors`.
    """

    def __init__(self, method: Method, run: Path, saved: int) -> None:
        self.method = method
        self.run = run
        self.saved = saved
        self.first = torch.full((len(method.columns),), torch.inf, device=method.fabric.device)

    def see(self, step: int, losses: Losses) -> None:
        """Remember the step if it is the first in which a loss is not finite, for each of the losses."""
        values = torch.stack([losses[name] for name in self.method.columns])
        self.first = torch.where(torch.isfinite(values), self.first, self.first.clamp(max=step))

    def check(self, step: int) -> None:
        """All ranks call it together.

        Raises:
            Diverged: a loss was not finite up to this step, or a weight isn't; it says which.
        """
        with ranks.all_ranks_or_none(self.method.fabric):
            first, name = min(zip(self.first.tolist(), self.method.columns, strict=True), key=itemgetter(0))
            bad = f"step {first:.0f}: {name} is" if first <= step else self._weights(step)
            if bad is not None:
                kept = f"is that of step {self.saved}" if self.saved else "was not written yet"
                raise Diverged(f"{bad} not finite; {self.run / 'last.safetensors'} {kept}. Take a lower lr")

    def _weights(self, step: int) -> str | None:
        for name, network in self.method.networks.items():
            if not torch.stack([weight.detach().isfinite().all() for weight in network.parameters()]).all():
                return f"step {step}: weights of {name} are"
        return None
