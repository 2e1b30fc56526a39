"""Loads diffusers pipelines whose parts come from different places, and says in one line why where it can't."""

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open

from undistill.base.errors import Failure, UsageError, first_line
from undistill.base.files import WEIGHTS
from undistill.base.libraries import quiet
from undistill.pairs.spec import SideSpec

DENOISERS = ("transformer", "unet")
LORA_FILE = "pytorch_lora_weights.safetensors"  # diffusers' own name for it


class WeightsRef(NamedTuple):
    """Where weights are: a folder, or a hub id and a revision."""

    name: str
    revision: str | None = None


class Weights(NamedTuple):
    """How weights are held."""

    dtype: torch.dtype
    quantised: Literal["int8", "nf4"] | None = None
    """Those of the denoiser and of T5, in fewer bits."""
    gguf: str | None = None
    """A GGUF file for the denoiser: a path, or "owner/name/file.gguf"."""


def find_weights(name: str, revision: str | None = None) -> WeightsRef:
    """A folder, else a folder of the package's weights, else a hub id; a folder has no revision.

    Raises:
        UsageError: neither of these.
    """
    for folder in (Path(name), WEIGHTS / name):
        if folder.is_dir():
            return WeightsRef(str(folder.resolve()))
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise UsageError(
            f"no weights {name!r}: neither a folder, nor shipped with undistill, nor a hub id (owner/name)"
        )
    return WeightsRef(name, revision)


def model_ref(side: SideSpec) -> WeightsRef:
    """Where a side's denoiser and scheduler come from."""
    return find_weights(side.model, side.revision)


def rest_ref(side: SideSpec, other: SideSpec) -> WeightsRef:
    """Where a side's other components come from; the other side's model is meant at the other side's revision."""
    if side.rest is None:
        return model_ref(side)
    return find_weights(side.rest, other.revision if side.rest == other.model else None)


def load_pipeline(
    mode: Literal["text-to-image", "image-to-image"],
    model: WeightsRef,
    rest: WeightsRef,
    weights: Weights,
    shared: Mapping[str, Any],
) -> Any:
    """A diffusers pipeline: denoiser and scheduler from `model`, all else from `rest`.

    It is on the CPU, but for what bitsandbytes quantises: that is on the GPU, if there is one.

    Args:
        rest: holds a whole pipeline, whose `model_index.json` says what kind it is.
        shared: components that are in memory already, by name; they are used, not loaded.

    Raises:
        Failure: the weights can't be had, or are no pipeline that can do this; or a library is missing.
    """
    index = json.loads(hub_file(rest, "model_index.json").read_text(encoding="utf-8"))
    with quiet():
        import diffusers

        if not hasattr(diffusers, index["_class_name"]):
            raise Failure(
                f"{rest.name} is a {index['_class_name']}, which diffusers {diffusers.__version__} doesn't know: "
                "pip install -U diffusers"
            )
        auto = diffusers.AutoPipelineForText2Image if mode == "text-to-image" else diffusers.AutoPipelineForImage2Image
        try:
            denoiser = next((name for name in DENOISERS if name in index), None)
            own: dict[str, Any] = {}
            if model != rest:
                if denoiser is None:
                    raise Failure(f"{rest.name} has no denoiser of its own ({', '.join(DENOISERS)}): leave out rest")
                scheduler = json.loads(hub_file(model, "scheduler/scheduler_config.json").read_text(encoding="utf-8"))
                own["scheduler"] = getattr(diffusers, scheduler["_class_name"]).from_config(scheduler)
                own |= _flags(model)
            if denoiser is not None and denoiser not in shared and (model != rest or weights.gguf is not None):
                own[denoiser] = _load_denoiser(model, denoiser, weights)
            own = {**shared, **own}
            wanted = {name for name in index if name not in own and (name == denoiser or is_t5(index[name]))}
            options = _load_options(weights.dtype)
            if weights.quantised is not None and wanted:
                options["quantization_config"] = diffusers.PipelineQuantizationConfig(
                    quant_mapping={name: _quantisation(weights, index[name][0]) for name in wanted}
                )
            return auto.from_pretrained(rest.name, revision=rest.revision, **options, **own)
        except Failure:
            raise
        except Exception as error:  # diffusers and transformers raise whatever the files led them to
            raise Failure(f"{model.name} can't be loaded: {first_line(error)}") from error


def _flags(model: WeightsRef) -> dict[str, bool]:
    """What a model's pipeline is told of its denoiser (FLUX.2 klein: is_distilled); nothing where it has none."""
    try:
        index = json.loads(hub_file(model, "model_index.json").read_text(encoding="utf-8"))
    except Failure:
        return {}
    return {name: value for name, value in index.items() if isinstance(value, bool)}


def _load_denoiser(model: WeightsRef, name: str, weights: Weights) -> Any:
    import diffusers

    options = _load_options(weights.dtype)
    if weights.gguf is None:
        if weights.quantised is not None:
            options["quantization_config"] = _quantisation(weights, "diffusers")
        return diffusers.AutoModel.from_pretrained(model.name, subfolder=name, revision=model.revision, **options)
    _need("gguf")
    config = hub_file(model, f"{name}/config.json")
    kind = getattr(diffusers, json.loads(config.read_text(encoding="utf-8"))["_class_name"])
    return kind.from_single_file(
        str(_named(weights.gguf, "gguf")),
        config=str(config.parent.parent),
        subfolder=name,
        torch_dtype=weights.dtype,
        quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=weights.dtype),
    )


def _load_options(dtype: torch.dtype) -> dict[str, Any]:
    # `torch_dtype`: older diffusers know no `dtype`, and pass over what they don't know.
    return {"torch_dtype": dtype, "use_safetensors": True}


def is_t5(entry: Any) -> bool:
    """Whether this entry of a `model_index.json` is quantised beside the denoiser."""
    return bool(entry == ["transformers", "T5EncoderModel"])


def _quantisation(weights: Weights, library: str) -> Any:
    """The quantisation as diffusers or transformers want it told."""
    import diffusers
    import transformers

    module = diffusers if library == "diffusers" else transformers
    if weights.quantised == "int8":
        _need("torchao")
        from torchao.quantization import Int8WeightOnlyConfig

        return module.TorchAoConfig(Int8WeightOnlyConfig(version=2))
    _need("bitsandbytes")
    return module.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=weights.dtype)


def _need(library: str) -> None:
    if find_spec(library) is None:
        raise Failure(f"quantised weights need {library}, which is not here (pip install {library})")


def add_lora(pipeline: Any, name: str) -> None:
    """Load a LoRA into the pipeline's denoiser, and into its text encoders if it has weights for them.

    Args:
        name: a safetensors file; a folder, shipped folder or hub id with diffusers' pytorch_lora_weights.safetensors;
            or a hub id and its file, "owner/name/file.safetensors".

    Raises:
        Failure: it can't be had, or is none.
    """
    path = _lora(name)
    with quiet():
        try:
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, use_safetensors=True)
        except Exception as error:  # see load
            raise Failure(f"LoRA {name} can't be loaded: {first_line(error)}") from error


def lora_encoders(name: str) -> frozenset[str]:
    """The text encoders that a LoRA changes, by component: they can't be the other side's as well.

    Raises:
        Failure: it can't be had, or is none.
    """
    try:
        with safe_open(_lora(name), "pt") as tensors:
            keys = list(tensors.keys())
    except SafetensorError as error:
        raise Failure(f"LoRA {name} can't be loaded: {first_line(error)}") from error
    changed = set()
    for key in keys:  # in diffusers' words: text_encoder_2.; in those of kohya's trainers: lora_te2_
        if named := re.match(r"(?:text_encoder(?:_(\d))?\.|lora_te(\d?)_)", key):
            number = named[1] or named[2] or "1"
            changed.add("text_encoder" if number == "1" else f"text_encoder_{number}")
    return frozenset(changed)


def _lora(name: str) -> Path:
    return _named(name, "safetensors", LORA_FILE)


def _named(name: str, suffix: str, default: str | None = None) -> Path:
    """A file: its path; or its hub id or folder before it; or the default one there."""
    if Path(name).is_file():
        return Path(name)
    named = re.fullmatch(rf"([^/]+/[^/]+)/(.+\.{suffix})", name)
    if named:
        return hub_file(find_weights(named[1]), named[2])
    if default is None:
        raise UsageError(f"no weights {name!r}: neither a file, nor one on the hub (owner/name/file.{suffix})")
    return hub_file(find_weights(name), default)


def hub_file(place: WeightsRef, file: str) -> Path:
    """A file of the place: diffusers' own errors don't tell a gated repository from a misspelt one.

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
