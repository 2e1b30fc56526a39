"""What the networks of a pair weigh and take to run, from their configurations alone: no weights are needed."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, finalize

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from undistill.base.errors import Failure, first_line
from undistill.base.libraries import quiet
from undistill.pairs.load import DENOISERS, WeightsRef, hub_file, is_t5, model_ref, rest_ref
from undistill.pairs.spec import PairSpec, SideSpec

CONFIGS = Path(__file__).parent / "configs"
"""The configurations of the shipped pairs' repositories, some of which are gated; `stored_bytes`: a weight's, there."""

BITS = {"Q8_0": 8.5, "Q6_K": 6.5625, "Q5_K": 5.5, "Q5_0": 5.5, "Q4_K": 4.5, "Q4_0": 4.5, "Q3_K": 3.4375, "Q2_K": 2.625}
"""Bits a weight of GGUF's types, scales included (github.com/ggml-org/ggml, ggml-common.h)."""
NF4 = 4.5
"""Bits a weight: 4, and a float32 for every 64 (Dettmers et al. 2023, without double quantisation)."""


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a pair."""

    part: str
    """Its name in the pipeline."""
    side: str
    """student, teacher or both."""
    place: str
    kind: str
    model: Any
    """On the meta device: shapes without values."""
    held: int
    """Bytes in memory."""
    download: int
    """Bytes to download; 0 where it is in a folder."""

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return _parameters(self.model)


@dataclass(frozen=True)
class DrawingCost:
    """What drawing takes."""

    student_flop: float
    """An image."""
    teacher_flop: float
    student_steps: int
    """Passes of the denoiser."""
    teacher_steps: int
    activations: int
    """Bytes at the peak of the denoiser's or the autoencoder's pass over a batch, weights not counted."""


def read_config(place: WeightsRef, file: str) -> Any:
    """A JSON file of a folder or of a shipped repository; else of the hub.

    Raises:
        Failure: there is none, or no network.
    """
    shipped = _shipped(place)
    if not Path(place.name).is_dir() and shipped.is_file():
        return json.loads(shipped.read_text(encoding="utf-8"))[file]
    return json.loads(hub_file(place, file).read_text(encoding="utf-8"))


def _shipped(place: WeightsRef) -> Path:
    return CONFIGS / f"{place.name.replace('/', '--')}.json"


def networks(spec: PairSpec) -> list[Network]:
    """The networks of both sides, those that they share once; LoRAs are left out.

    Raises:
        Failure: a configuration can't be had, or is of a class that isn't known here.
    """
    student = list(_of_side(spec, spec.student, spec.teacher, "student"))
    teacher = list(_of_side(spec, spec.teacher, spec.student, "teacher"))
    denoiser = [(side.gguf, side.lora) for side in (spec.student, spec.teacher)]
    places = {network.part: network.place for network in student}
    shared = {
        network.part
        for network in teacher
        if places.get(network.part) == network.place and (network.part not in DENOISERS or denoiser[0] == denoiser[1])
    }
    own = [network for network in teacher if network.part not in shared]
    return [replace(n, side="both") if n.part in shared else n for n in student] + own


def drawing_cost(spec: PairSpec, all_networks: list[Network], batch: int) -> DrawingCost:
    """Counts the operations of `batch` images, by torch's FlopCounterMode on shapes.

    Raises:
        Failure: a denoiser of a kind that isn't known here.
    """
    vae = next(network.model for network in all_networks if network.part == "vae")
    empty = partial(torch.zeros, device="meta", dtype=getattr(torch, spec.dtype))
    if "z_dim" in vae.config:  # Qwen-Image's, which takes films; an image is one of a single frame
        side = spec.size // 2 ** len(vae.config.temperal_downsample)
        image, latents = empty(1, 3, 1, spec.size, spec.size), empty(1, vae.config.z_dim, 1, side, side)
    else:
        side = spec.size // 2 ** (len(vae.config.block_out_channels) - 1)
        image, latents = empty(1, 3, spec.size, spec.size), empty(1, vae.config.latent_channels, side, side)
    encode, in_encode = _count_operations(vae, lambda: vae.encode(image))
    decode, in_decode = _count_operations(vae, lambda: vae.decode(latents))
    activations = [in_encode, in_decode]  # one by one
    flop: dict[str, float] = {}
    steps = {"student": spec.student.steps, "teacher": int(spec.teacher.steps * spec.teacher.strength)}
    if any(network.kind == "Flux2Transformer2DModel" for network in all_networks) and spec.teacher.strength < 1:
        steps["teacher"] += 1  # its pipeline takes no strength: pairs/start.py
    for name, of in (("student", spec.student), ("teacher", spec.teacher)):
        mine = [network for network in all_networks if network.side in (name, "both")]
        length = of.max_sequence_length or 256
        flop[name] = decode if name == "student" else encode + decode
        for network in mine:
            if network.part in DENOISERS:
                twice = of.guidance > 1 and network.kind != "FluxTransformer2DModel"  # classifier-free guidance
                run = denoiser_pass(network, batch * (1 + twice), side, length, empty)
                counted, peak = _count_operations(network.model, run)
                flop[name] += counted * steps[name] / batch
                activations.append(peak)
            # The teacher's prompts are the student's, encoded already.
            elif network.part.startswith("text_encoder") and name == "student":
                flop[name] += _count_operations(network.model, _encoder_pass(network, length))[0]
    return DrawingCost(flop["student"], flop["teacher"], steps["student"], steps["teacher"], max(activations))


def parameters_at_once(network: nn.Module) -> int:
    """Parameters that are on the GPU at once: the block that runs, the next, and what belongs to no block."""
    blocks = [
        [_parameters(block) for block in child] for child in network.children() if isinstance(child, nn.ModuleList)
    ]
    rest = _parameters(network) - sum(map(sum, blocks))
    return rest + 2 * max((size for sizes in blocks for size in sizes), default=0)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _of_side(spec: PairSpec, side: SideSpec, other: SideSpec, name: str) -> Iterator[Network]:
    model, rest = model_ref(side), rest_ref(side, other)
    for part, entry in read_config(rest, "model_index.json").items():
        place = model if part in DENOISERS else rest
        if not isinstance(entry, list) or entry[0] not in ("diffusers", "transformers"):
            continue
        library, kind = entry
        if part == "scheduler" or "Tokenizer" in kind or "Processor" in kind or "Extractor" in kind:
            continue
        network = _on_meta(library, kind, read_config(place, f"{part}/config.json"), getattr(torch, spec.dtype))
        bits = None
        if part in DENOISERS and side.gguf is not None:
            named = re.search("|".join(BITS), side.gguf)
            bits = BITS[named[0]] if named else None
        elif part in DENOISERS or is_t5(entry):
            bits = {None: None, "int8": 8.0, "nf4": NF4}[spec.quantised]
        held = _held(network, bits)
        download = 0
        if part in DENOISERS and side.gguf is not None:
            download = 0 if Path(side.gguf).is_file() else held
        elif not Path(place.name).is_dir():
            download = int(_parameters(network) * _stored_bytes(place))
        yield Network(part, name, place.name, kind, network, held, download)


def _stored_bytes(place: WeightsRef) -> float:
    shipped = _shipped(place)
    return json.loads(shipped.read_text(encoding="utf-8"))["stored_bytes"] if shipped.is_file() else 4.0


def _on_meta(library: str, kind: str, settings: dict[str, Any], dtype: torch.dtype) -> Any:
    try:
        with quiet(), torch.device("meta"):
            import diffusers
            import transformers

            if library == "diffusers":
                network = getattr(diffusers, kind).from_config(settings)
            else:
                made = getattr(transformers, kind)
                network = made(made.config_class(**settings))
            return network.to(dtype).eval()
    except Exception as error:  # whatever other people's classes say of other people's settings
        raise Failure(f"{kind} can't be built from its configuration: {first_line(error)}") from error


def _held(network: nn.Module, bits: float | None) -> int:
    """Bytes of a network's weights; `bits`: of a weight of a linear layer, where those are quantised."""
    total = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    if bits is not None:
        for module in network.modules():
            if isinstance(module, nn.Linear):
                total += int(module.weight.numel() * bits / 8) - module.weight.nbytes
    return total


def _encoder_pass(network: Network, length: int) -> Any:
    model = network.model
    if "CLIP" in network.kind:
        length = model.config.max_position_embeddings
    elif "Qwen" in network.kind:  # its words alone: no image is looked at, and no next word is asked for
        model = model.get_decoder() if hasattr(model, "get_decoder") else model
    return partial(model, torch.zeros(1, length, dtype=torch.long, device="meta"))


def denoiser_pass(network: Network, batch: int, side: int, length: int, empty: Any) -> Any:
    """What runs a denoiser once on zeros.

    Args:
        side: of the latents.
        length: tokens of T5's.
        empty: makes a tensor of a shape.

    Raises:
        Failure: a denoiser of a kind that isn't known here.
    """
    model, settings = network.model, network.model.config
    time = empty(batch)
    if network.kind == "FluxTransformer2DModel":
        tokens = (side // 2) ** 2
        return lambda: model(
            hidden_states=empty(batch, tokens, settings.in_channels),
            encoder_hidden_states=empty(batch, length, settings.joint_attention_dim),
            pooled_projections=empty(batch, settings.pooled_projection_dim),
            timestep=time,
            img_ids=empty(tokens, 3),
            txt_ids=empty(length, 3),
            guidance=time if settings.guidance_embeds else None,
        )
    if network.kind == "SD3Transformer2DModel":
        return lambda: model(
            hidden_states=empty(batch, settings.in_channels, side, side),
            encoder_hidden_states=empty(batch, 77 + length, settings.joint_attention_dim),
            pooled_projections=empty(batch, settings.pooled_projection_dim),
            timestep=time,
        )
    if network.kind == "UNet2DConditionModel" and settings.addition_embed_type == "text_time":
        pooled = settings.projection_class_embeddings_input_dim - 6 * settings.addition_time_embed_dim
        return lambda: model(
            empty(batch, settings.in_channels, side, side),
            time,
            empty(batch, 77, settings.cross_attention_dim),
            added_cond_kwargs={"text_embeds": empty(batch, pooled), "time_ids": empty(batch, 6)},
        )
    if network.kind == "Flux2Transformer2DModel":
        tokens = (side // 2) ** 2
        return lambda: model(
            hidden_states=empty(batch, tokens, settings.in_channels),
            encoder_hidden_states=empty(batch, length, settings.joint_attention_dim),
            timestep=time,
            img_ids=empty(batch, tokens, 4),
            txt_ids=empty(batch, length, 4),
            guidance=time if settings.guidance_embeds else None,
        )
    if network.kind == "QwenImageTransformer2DModel":
        return lambda: model(
            hidden_states=empty(batch, (side // 2) ** 2, settings.in_channels),
            encoder_hidden_states=empty(batch, length, settings.joint_attention_dim),
            timestep=time,
            img_shapes=[[(1, side // 2, side // 2)]] * batch,
        )
    if network.kind == "ZImageTransformer2DModel":
        images = [empty(settings.in_channels, 1, side, side) for _ in range(batch)]
        return lambda: model(images, time, [empty(length, settings.cap_feat_dim) for _ in images])
    raise Failure(f"no plan for {network.kind}: FLUX, FLUX.2, Z-Image, Qwen-Image, Stable Diffusion 3 and XL are known")


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of the tensors that are alive, but for a network's own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        own = (*network.parameters(), *network.buffers())
        self._seen: WeakKeyDictionary[Any, bool] = WeakKeyDictionary({t.untyped_storage(): True for t in own})

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage not in self._seen:
                    self._seen[storage] = True
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    finalize(storage, self._free, storage.nbytes())
        return out

    def _free(self, count: int) -> None:
        self.now -= count


class _Fused(TorchFunctionMode):
    """Attention as GPUs do it, where its matrix is never in memory as a whole; on the meta device it would be."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value = [*args, *((kwargs or {}).get(name) for name in ("query", "key", "value")[len(args) :])][:3]
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]


def _count_operations(network: nn.Module, run: Any) -> tuple[float, int]:
    """Floating point operations, and bytes of activations at the peak."""
    peak = PeakMemory(network)
    with torch.no_grad(), _Fused(), FlopCounterMode(display=False) as flop, peak:
        run()
    return float(flop.get_total_flops()), peak.most
