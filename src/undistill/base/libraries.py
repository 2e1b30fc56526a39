"""diffusers and transformers, which say much to users that isn't theirs to mend, and need a torchvision that fits."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

from huggingface_hub import utils as hub

from undistill.base.errors import Failure, first_line


@contextmanager
def quiet(*names: Literal["diffusers", "transformers"]) -> Iterator[None]:
    """No warnings and no bars but those of the hub's downloads; afterwards all is set as it was before.

    These switches are the whole process's, and neither diffusers nor transformers has others: a message that another
    thread logs meanwhile, of WARNING or less, is lost. So it is held for a call of theirs, no longer; and for their
    imports, on which torchao logs what it misses, torch's pytree what torchao does, and transformers that torchvision
    is not here.

    Args:
        names: the libraries that are used in the block; none: both.

    Raises:
        Failure: torchvision is here and can't be imported, so that they can't be.
    """
    _refuse_torchvision()
    libraries = [import_module(f"{name}.utils.logging") for name in names or ("diffusers", "transformers")]
    downloads = not hub.are_progress_bars_disabled()
    levels = [(library, library.get_verbosity()) for library in libraries]
    bars = [library for library in libraries if library.is_progress_bar_enabled()]
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)  # torchao and bitsandbytes, of what they miss on a CPU
        try:
            for library in libraries:
                library.set_verbosity_error()
                library.disable_progress_bar()
            if downloads:  # transformers has switched them off with its own
                hub.enable_progress_bars()
            yield
        finally:
            logging.disable(disabled)
            for library, level in levels:
                library.set_verbosity(level)
            for library in bars:
                library.enable_progress_bar()
            if not downloads:
                hub.disable_progress_bars()


def _refuse_torchvision() -> None:
    """Both import it where it is there, and one of another torch's can't be."""
    if "torchvision" in sys.modules or find_spec("torchvision") is None:
        return
    try:
        import_module("torchvision")
    except Exception as error:  # "operator torchvision::nms does not exist", undefined symbols and the like
        import torch

        raise Failure(
            f"torchvision does not fit torch {torch.__version__} ({first_line(error)}): install the one that does, or "
            "none (pip uninstall torchvision): undistill doesn't need it"
        ) from error
