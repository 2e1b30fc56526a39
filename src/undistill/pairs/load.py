"""Loads diffusers pipelines whose parts come from different places, and says in one line why where it can't."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub import utils as hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import safe_open

from undistill.errors import Failure, UsageError, first_line
from undistill.heads.head import WEIGHTS

DENOISERS = ("transformer", "unet")
LORA_FILE = "pytorch_lora_weights.safetensors"  # diffusers' own name for it


class Place(NamedTuple):
    """Where weights are: a folder, or a hub id and a revision."""

    name: str
    revision: str | None = None


def find(name: str, revision: str | None = None) -> Place:
    """A folder, else a folder of the package's weights, else a hub id; a folder has no revision.

    Raises:
        UsageError: neither of these.
    """
    for folder in (Path(name), WEIGHTS / name):
        if folder.is_dir():
            return Place(str(folder.resolve()))
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise UsageError(
            f"no weights {name!r}: neither a folder, nor shipped with undistill, nor a hub id (owner/name)"
        )
    return Place(name, revision)


def load(
    mode: Literal["text-to-image", "image-to-image"],
    model: Place,
    rest: Place,
    dtype: torch.dtype,
    shared: Mapping[str, Any],
) -> Any:
    """A diffusers pipeline, on the CPU: denoiser and scheduler from `model`, all else from `rest`.

    Args:
        rest: holds a whole pipeline, whose `model_index.json` says what kind it is.
        shared: components that are in memory already, by name; they are used, not loaded.

    Raises:
        Failure: the weights can't be had, or are no pipeline that can do this.
    """
    index = _file(rest, "model_index.json")
    with quiet():
        import diffusers

        auto = diffusers.AutoPipelineForText2Image if mode == "text-to-image" else diffusers.AutoPipelineForImage2Image
        # `torch_dtype`: older diffusers know no `dtype`, and pass over what they don't know.
        options = {"torch_dtype": dtype, "use_safetensors": True}
        own: dict[str, Any] = {}
        try:
            if model != rest:
                denoiser = next((name for name in DENOISERS if name in json.loads(index.read_text())), None)
                if denoiser is None:
                    raise Failure(f"{rest.name} has no denoiser of its own ({', '.join(DENOISERS)}): leave out rest")
                scheduler = json.loads(_file(model, "scheduler/scheduler_config.json").read_text())
                own["scheduler"] = getattr(diffusers, scheduler["_class_name"]).from_config(scheduler)
                if denoiser not in shared:
                    own[denoiser] = diffusers.AutoModel.from_pretrained(
                        model.name, subfolder=denoiser, revision=model.revision, **options
                    )
            return auto.from_pretrained(rest.name, revision=rest.revision, **options, **{**shared, **own})
        except Failure:
            raise
        except Exception as error:  # diffusers and transformers raise whatever the files led them to
            raise Failure(f"{model.name} can't be loaded: {first_line(error)}") from error


def add_lora(pipeline: Any, name: str) -> None:
    """Load a LoRA into the pipeline's denoiser.

    Args:
        name: a safetensors file; a folder, shipped folder or hub id with diffusers' pytorch_lora_weights.safetensors;
            or a hub id and its file, "owner/name/file.safetensors".

    Raises:
        Failure: it can't be had, is none, changes text encoders too, or peft is missing.
    """
    path = Path(name)
    if not path.is_file():
        named = re.fullmatch(r"([^/]+/[^/]+)/(.+\.safetensors)", name)
        path = _file(find(named[1]), named[2]) if named else _file(find(name), LORA_FILE)
    with quiet():
        try:
            with safe_open(path, "pt") as tensors:
                # In diffusers' words and in those of kohya's trainers. Text encoders may be the other side's as well.
                if any(key.startswith(("text_encoder", "lora_te")) for key in tensors.keys()):  # noqa: SIM118
                    raise Failure(f"LoRA {name} changes text encoders; take one that changes the denoiser alone")
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, use_safetensors=True)
        except Failure:
            raise
        except Exception as error:  # see load
            reason = first_line(error)
            if "PEFT" in reason:
                reason = "it needs peft, which is not here (pip install peft)"
            raise Failure(f"LoRA {name} can't be loaded: {reason}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no bars but those of the hub's downloads; afterwards all is set as it was before."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    downloads = not hub.are_progress_bars_disabled()
    levels = [(library, library.get_verbosity()) for library in (diffusers, transformers)]
    bars = [library for library in (diffusers, transformers) if library.is_progress_bar_enabled()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for library in (diffusers, transformers):
                library.set_verbosity_error()
                library.disable_progress_bar()
            if downloads:  # transformers has switched them off with its own
                hub.enable_progress_bars()
            yield
        finally:
            for library, level in levels:
                library.set_verbosity(level)
            for library in bars:
                library.enable_progress_bar()
            if not downloads:
                hub.disable_progress_bars()


def _file(place: Place, file: str) -> Path:
    """A small file of the place: diffusers' own errors don't tell a gated repository from a misspelt one.

    Raises:
        Failure: there is no such file, in words for every reason.
    """
    name, revision = place
    if Path(name).is_dir():
        path = Path(name) / file
        if not path.is_file():
            raise Failure(f"{name} has no {file}")
        return path
    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except GatedRepoError as error:
        raise Failure(
            f"{name} is gated: accept its licence at https://huggingface.co/{name}, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise Failure(f"no model {name} on the Hugging Face hub (if it is private: `hf auth login`)") from error
    except RevisionNotFoundError as error:
        raise Failure(f"{name} has no revision {revision}") from error
    except LocalEntryNotFoundError as error:
        raise Failure(
            f"{name} is not downloaded yet, and the Hugging Face hub can't be reached (offline, or HF_HUB_OFFLINE is "
            f"set); if it is gated, accept its licence at https://huggingface.co/{name} and log in with `hf auth login`"
        ) from error
    except EntryNotFoundError as error:
        raise Failure(f"{name} has no {file}") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise Failure(f"{name} can't be had from the Hugging Face hub: {first_line(error)}") from error
