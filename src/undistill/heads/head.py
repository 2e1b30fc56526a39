"""What every head has in common: loading, saving, and a typed description."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from shutil import copyfile
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from undistill.base.errors import UsageError, first_line
from undistill.base.files import WEIGHTS, replacing
from undistill.heads.pooling import GlobalPool, WholeImage

_FILES = ["config.json", "model.safetensors", "README.md", "metrics.json"]
_FOR_ALL_COMPONENTS = ("dtype", "torch_dtype", "variant")
_MEASURED = ("gflop_512", "bf16_psnr")  # in config.json, but no arguments: `descriptor` would measure them anew


class HeadError(UsageError):
    """A head that can't be found, read or used as asked."""


@dataclass(frozen=True)
class Descriptor:
    """What a caller must know of a head, so that nobody asks the network itself."""

    architecture: str
    parameters: int
    smallest: int
    """Least height and width, px."""
    multiple: int
    """Height and width must be multiples of this, px."""
    receptive_field: int
    """Side of the square of input pixels that an output pixel depends on, px (statistics of the whole image apart)."""
    whole_image: bool
    """Some layers use statistics of the whole image (instance norm, CBAM), or all of it is looked at."""
    trained_at: int | None
    """Short side of the images that it was trained on, px; None: any."""
    bf16: bool
    """Autocast to bfloat16 gives the same picture: PSNR to float32 of 40 dB and more, measured on fixed noise."""
    gflop_512: float
    """Cost of one 512 x 512 image in GFLOP (a multiply-add counts as two)."""


class Head(
    nn.Module,
    ModelHubMixin,
    ABC,
    library_name="undistill",
    license="apache-2.0",
    pipeline_tag="image-to-image",
    tags=["undistill", "portraits"],
    paper_url="https://arxiv.org/abs/2505.02255",
):
    """Image-to-image network that makes student images look like teacher images.

    Input and output: (N, 3, H, W) in [-1, 1], H and W as `descriptor` asks. With `residual` the network's output is
    added to its input, and the sum may leave [-1, 1] a little: clamp it to show it.

    A subclass defines `body` (the network; its output in [-1, 1]), `encode` (its features on the way in), `reach` (px
    an output pixel sees to each side), and the sizes it takes.

    Example:
        head = Head.from_pretrained("flux1")
        enhanced = head(student).clamp(-1, 1)
    """

    multiple: int
    smallest: ClassVar[int]
    rescales: ClassVar[bool] = False
    """It minds `trained_at` by itself, and is run on images as they are."""
    architectures: ClassVar[dict[str, type["Head"]]] = {}

    def __init_subclass__(cls, **card: Any) -> None:
        super().__init_subclass__(**card)
        Head.architectures[cls.__name__] = cls

    def __init__(self, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.trained_at: int | None = None  # short side of the images of the training, px; None: any
        self.folder: Path | None = None  # where it was loaded from
        self.gflop_512: float | None = None  # what its config.json knew: GFLOP,
        self.bf16_psnr: dict[str, float] = {}  # and dB by kind of device

    @abstractmethod
    def body(self, x: Tensor) -> Tensor:
        """The network: (N, 3, H, W) in [-1, 1] to the same shape and range."""

    @abstractmethod
    def encode(self, x: Tensor) -> list[Tensor]:
        """Feature maps on the way in, from fine to coarse: what patches are told apart by (losses.PatchNCE)."""

    @property
    def grid(self) -> int:
        """Tiles must begin at multiples of this to see what the whole image sees, px."""
        return self.multiple

    @abstractmethod
    def reach(self) -> int:
        """How far an output pixel sees to each side, px of the input; statistics of the whole image apart."""

    def forward(self, x: Tensor) -> Tensor:
        """Enhance a batch; see the class.

        Raises:
            ValueError: height or width is none that the head takes.
        """
        height, width = x.shape[-2:]
        if min(height, width) < self.smallest or height % self.multiple or width % self.multiple:
            raise ValueError(
                f"{type(self).__name__} takes sides of at least {self.smallest} px that are multiples of "
                f"{self.multiple}, not {height} x {width}: undistill.enhance.Enhancer takes any"
            )
        y = self.body(x)
        return x + y if self.residual else y

    def round_up(self, length: int) -> int:
        """The next multiple that the head takes, px."""
        return -(-length // self.multiple) * self.multiple

    def initialise(self, last: nn.Module) -> None:
        """He's weights (2015), so that features keep their size even without normalisation.

        `last`, the convolution to RGB, starts small, and in a residual head at zero: it begins by changing nothing.
        """
        if next(last.parameters()).is_meta:  # normal numbers there import torch._dynamo, which takes seconds
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in last.parameters():
            parameter.data.mul_(0.0 if self.residual else 0.1)

    @property
    def device(self) -> torch.device:
        """Where it is; diffusers asks its components."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""
        return next(self.parameters()).dtype

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make a head like this one."""
        return dict(self._hub_mixin_config or {})  # type: ignore[arg-type]  # collected by the mixin

    # -- description ---------------------------------------------------------------------------------------------

    @cached_property
    def descriptor(self) -> Descriptor:
        """Of the weights as they were loaded: bf16 and GFLOP are in config.json since they were saved.

        What is missing there is measured at the first call, and kept: don't change the weights in between.
        """
        psnr = self.bf16_psnr.get(self.device.type)
        return Descriptor(
            architecture=type(self).__name__,
            parameters=sum(parameter.numel() for parameter in self.parameters()),
            smallest=self.smallest,
            multiple=self.multiple,
            receptive_field=2 * self.reach() + 1,
            whole_image=any(isinstance(module, GlobalPool | WholeImage) for module in self.modules()),
            trained_at=self.trained_at,
            bf16=(self._bf16_psnr() if psnr is None else psnr) >= 40,
            gflop_512=self.gflop(512) if self.gflop_512 is None else self.gflop_512,
        )

    def gflop(self, size: int) -> float:
        """Cost of one `size` x `size` image in GFLOP (a multiply-add counts as two), without what is padded."""
        side = self.round_up(max(self.smallest, size))
        with torch.device("meta"):
            twin = type(self)(**self.config)
            counter = FlopCounterMode(display=False)
            with counter, torch.no_grad():
                twin(torch.empty(1, 3, side, side))
        return float(counter.get_total_flops()) / 1e9 * (size / side) ** 2

    @torch.no_grad()
    def _bf16_psnr(self) -> float:
        side = self.round_up(max(self.smallest, 64))
        # Smooth noise, since white noise is nothing like a picture.
        noise = torch.rand(1, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
        image = F.interpolate(noise, (side, side), mode="bicubic").clamp(-1, 1).to(self.device)
        exact = self(image).clamp(-1, 1)
        with torch.autocast(image.device.type, torch.bfloat16):
            coarse = self(image).float().clamp(-1, 1)
        error = (exact - coarse).square().mean().clamp_min(1e-12)
        return float(10 * torch.log10(4 / error))

    # -- files ---------------------------------------------------------------------------------------------------

    def _save_pretrained(self, save_directory: Path) -> None:
        # Measured here, not taken from where it was loaded: its weights may have been trained since.
        measured = {
            "gflop_512": round(self.gflop(512), 3),
            "bf16_psnr": {self.device.type: round(self._bf16_psnr(), 1)},
        }
        trained_at = {} if self.trained_at is None else {"trained_at": self.trained_at}
        config = {"architecture": type(self).__name__, **self.config, **trained_at, **measured}
        write_weights(self, save_directory / "model.safetensors")
        with replacing(save_directory / "config.json") as path:
            path.write_text(_written(config), encoding="utf-8")
        for name in ("README.md", "metrics.json"):
            if self.folder is not None and (self.folder / name).exists() and not (save_directory / name).exists():
                copyfile(self.folder / name, save_directory / name)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, name: str | Path, *, revision: str | None = None, subfolder: str | None = None, **hub: Any
    ) -> Self:
        """Load a head: a folder, a name of `shipped_heads()`, or a Hugging Face hub id ("owner/name", downloaded).

        Weights are stored as float16 and come back as float32, in evaluation mode.

        Args:
            name: which.
            revision: commit, tag or branch of a hub id; None: its newest.
            subfolder: where the head is in the folder or repository.
            hub: what `huggingface_hub.snapshot_download` takes beside (`token`, `cache_dir`, `local_files_only`). What
                diffusers tells all components of a pipeline (`dtype`, `variant`) is passed over.

        Raises:
            HeadError: nothing of that name, its files don't fit, or a weight is no finite float.
        """
        hub = {option: value for option, value in hub.items() if option not in _FOR_ALL_COMPONENTS}
        folder = head_folder(name, revision, subfolder, **hub)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            made_of = cls.architectures[config.pop("architecture")]
            gflop, psnr, trained_at = (config.pop(name, None) for name in (*_MEASURED, "trained_at"))
            weights = load_file(folder / "model.safetensors")
            _refuse_endless(weights, config)
            with torch.device("meta"):
                _refuse_others(weights, made_of(**config))  # before memory is taken for what may not fit
            head = made_of(**config)
            if trained_at is not None and (type(trained_at) is not int or trained_at < 1):
                raise ValueError(f"trained_at {trained_at!r} is no number of px")
            head.trained_at = trained_at
            head.gflop_512 = None if gflop is None else float(gflop)
            head.bf16_psnr = {str(kind): float(db) for kind, db in (psnr or {}).items()}
            head.load_state_dict(weights)
        except FileNotFoundError as error:
            raise HeadError(f"{folder} is not a head: it has no {Path(error.filename).name}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise HeadError(f"{folder} is not a head this version can read: {first_line(error)}") from error
        if not isinstance(head, cls):
            raise HeadError(f"{name} is a {made_of.__name__}, not a {cls.__name__}")
        for tensor, value in head.state_dict().items():  # such a head would make every image black, without a word
            if not weights[tensor].is_floating_point():
                dtype = str(weights[tensor].dtype).removeprefix("torch.")
                raise HeadError(f"{folder} is not a head: its tensor {tensor} is {dtype}, where floats are expected")
            if not value.isfinite().all():
                raise HeadError(f"{folder} is a broken head: its tensor {tensor} holds NaN or infinity")
        head.folder = folder
        return head.eval()


def write_weights(head: Head, path: Path, beside: Mapping[str, Tensor] | None = None) -> None:
    """Write a head's weights, in float16, whole or not at all.

    Args:
        beside: other tensors of the file.
    """
    weights = {name: tensor.detach().half().contiguous() for name, tensor in head.state_dict().items()}
    with replacing(path) as part:
        save_file({**weights, **(beside or {})}, part)
        part.chmod(0o644)  # safetensors writes for the owner alone


def shipped_heads() -> list[str]:
    """Names of the heads that come with the package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def head_folder(name: str | Path, revision: str | None = None, subfolder: str | None = None, **hub: Any) -> Path:
    """The folder of a head: itself, a shipped head's, or where the hub's files were downloaded to.

    Args: see `Head.from_pretrained`.

    Raises:
        HeadError: nothing of that name.
    """
    # A folder of results may be called like the head that made them.
    if Path(name).is_dir() and ((Path(name) / "config.json").exists() or str(name) not in shipped_heads()):
        return Path(name) / (subfolder or "")
    if str(name) in shipped_heads():
        return WEIGHTS / str(name)
    wanted = f"no head {str(name)!r}: neither a folder, nor shipped ({', '.join(shipped_heads())})"
    if str(name).count("/") != 1:
        raise HeadError(f"{wanted}, nor a hub id (owner/name)")
    try:
        files = [f"{subfolder}/{file}" if subfolder else file for file in _FILES]
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=files, **hub)) / (subfolder or "")
    except HFValidationError as error:
        raise HeadError(f"{wanted}, nor a hub id (owner/name)") from error
    except RevisionNotFoundError as error:
        raise HeadError(f"the head {name} has no revision {revision} on the Hugging Face hub") from error
    except RepositoryNotFoundError as error:
        raise HeadError(f"{wanted}, nor on the Hugging Face hub (if it is private: `hf auth login`)") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise HeadError(f"{wanted}, nor to be had from the hub: {first_line(error)}") from error


def head_name(name: str) -> str:
    """What a head is called in what others may see: of a folder its last part, the rest is nobody's business."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def head_hash(folder: Path) -> str:
    """Tells two heads apart: SHA-256 over configuration and weights, without what is only measured of them.

    Raises:
        HeadError: the folder holds no head.
    """
    try:
        config = (folder / "config.json").read_bytes()
        weights = (folder / "model.safetensors").read_bytes()
    except OSError as error:
        raise HeadError(f"{folder} is not a head: it has no {Path(error.filename).name}") from error
    with suppress(ValueError):  # what can't be read is told apart, too
        fields = json.loads(config)
        if isinstance(fields, dict) and any(name in fields for name in _MEASURED):
            config = _written({name: value for name, value in fields.items() if name not in _MEASURED}).encode()
    return sha256(config + weights).hexdigest()


def _refuse_endless(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Raises:
    ValueError: a number of blocks, channels, ... that these weights can't have, and that may take hours to build.
    """
    most = max([len(weights), *(length for tensor in weights.values() for length in tensor.shape)])
    for key, value in config.items():
        if isinstance(value, int) and value > most:
            raise ValueError(f"config.json asks for {key}: {value}, more than model.safetensors can hold")


def _refuse_others(weights: Mapping[str, Tensor], head: Head) -> None:
    """Raises:
    ValueError: the head has other tensors, or one of another shape; it names the first.
    """
    wanted = head.state_dict()
    for name in (*wanted, *weights):
        if name not in weights:
            raise ValueError(
                f"model.safetensors lacks the tensor {name}, which is {_shape(wanted[name])} by config.json"
            )
        if name not in wanted:
            raise ValueError(f"its tensor {name} is none of a {type(head).__name__}'s as config.json describes it")
        if weights[name].shape != wanted[name].shape:
            raise ValueError(
                f"its tensor {name} is {_shape(weights[name])}, where config.json asks for {_shape(wanted[name])}"
            )


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def _written(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=2) + "\n"
