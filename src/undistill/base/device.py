"""Where to compute."""

import torch

from undistill.base.errors import UsageError, first_line


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The named device; None or "auto": a GPU if there is one, else the CPU.

    Raises:
        UsageError: there is no such device here.
    """
    if name is None or name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device {name!s} can't be used here: {first_line(error)}") from error
    return device
