"""Where a run stands, kept in its checkpoints: all that it needs to go on, and how another run begins with it."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from undistill.base.device import is_out_of_memory
from undistill.base.errors import UsageError, first_line
from undistill.training import checkpoint
from undistill.training.method import Method

BEGUN: dict[str, Any] = {"step": 0, "best": None, "best_step": 0, "stopped": False}
"""Where a run stands: steps done, the lowest val_loss and its step, and whether there was none lower for too long."""
_DAMAGED = (SafetensorError, KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError)
"""What a checkpoint raises that holds something else than `save` wrote."""


def save(method: Method, state: dict[str, Any], path: Path) -> None:
    """Everything a run needs to go on: networks, averages, optimizers, image pools, and its place."""
    checkpoint.save(
        path,
        {
            "progress": state,
            "networks": {name: network.state_dict() for name, network in method.networks.items()},
            "averages": {name: average.module.state_dict() for name, average in method.averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in method.optimizers.items()},
            "extra": method.extra_state(),
        },
    )


def restore(method: Method, path: Path) -> dict[str, Any]:
    """Undo `save`; returns the run's place.

    Raises:
        UsageError: the file is damaged.
    """
    try:
        saved = checkpoint.load(path)
        for name, network in method.networks.items():
            network.load_state_dict(saved["networks"][name])
        for name, average in method.averages.items():
            average.module.load_state_dict(saved["averages"][name])
        for name, optimizer in method.optimizers.items():
            optimizer.load_state_dict(saved["optimizers"][name])
        method.load_extra_state(saved["extra"])
        state = _place(saved["progress"])
    except _DAMAGED as error:
        if is_out_of_memory(error):  # it says nothing of the file
            raise
        raise UsageError(f"{path} can't be read ({first_line(error)}): take a new folder for -o") from error
    return state


def _place(kept: dict[str, Any]) -> dict[str, Any]:
    """Where a run stands, as `BEGUN`.

    Raises:
        ValueError: it says nothing of the kind.
    """
    place = {key: kept[key] for key in BEGUN}
    counts = all(type(place[key]) is int and place[key] >= 0 for key in ("step", "best_step"))
    if not counts or type(place["stopped"]) is not bool or type(place["best"]) not in (float, int, type(None)):
        raise ValueError("no place in a run")
    return place


def load_networks_from(method: Method, run: Path) -> None:
    """Take the networks of another run, at its best validation: their averages, where it has them.

    Raises:
        UsageError: there is no such run, or its networks are of another kind.
    """
    file = run / "best.safetensors" if (run / "best.safetensors").exists() else run / "last.safetensors"
    try:
        saved = checkpoint.load(file)
        for name, network in method.networks.items():
            weights = saved["averages"].get(name) or saved["networks"][name]
            network.load_state_dict(weights)
            if name in method.averages:
                method.averages[name].module.load_state_dict(weights)
    except OSError as error:
        raise UsageError(f"start: {run} holds no run with a checkpoint") from error
    except _DAMAGED as error:
        if is_out_of_memory(error):
            raise
        raise UsageError(f"start: {file} holds other networks than the recipe's ({first_line(error)})") from error
