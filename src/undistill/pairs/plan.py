"""What a pairs data set will take: downloads, memory, time, storage; said before anything is downloaded.

Weights, memory and operations are computed from configurations (`undistill.pairs.networks`). Times are estimates: the
operations over the rate of a GPU, until some pairs are drawn and their own times are taken (`Measured`).
"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from undistill.base.errors import UsageError
from undistill.base.table import Table
from undistill.dataset.shard import Pairs, shard_path
from undistill.pairs.create import TIMINGS, read_timings
from undistill.pairs.load import DENOISERS
from undistill.pairs.networks import DrawingCost, Network, drawing_cost, networks, parameters_at_once
from undistill.pairs.place import CUDA, Offload, choose_offload, working_bytes
from undistill.pairs.spec import PairSpec

DAY_S = 86_400
SUSTAINED = 0.4
"""Share of a GPU's peak that drawing is taken to reach: an assumption."""
BUS = 20e9
"""Bytes/s from the CPU's memory to the GPU's: some two thirds of PCIe 4.0 x16's 32e9: an assumption."""
PNG_BYTES_PX = 1.17
"""Bytes a pixel: the mean over 370 portraits of FLUX.1-schnell and -dev as PNG, 253 to 477 px, from JPEG (tests)."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, and its peak by its vendor: dense bfloat16 products, sums in float32, FLOP/s."""

    name: str
    memory: int
    peak: float


GPUS = (
    Gpu("H100 SXM, 80 GB", 80_000_000_000, 989e12),
    Gpu("A100, 80 GB", 80_000_000_000, 312e12),
    Gpu("RTX 4090, 24 GB", 24_000_000_000, 165e12),
    Gpu("RTX 4080, 16 GB", 16_000_000_000, 97e12),
)


@dataclass(frozen=True)
class OnGpu:
    """A pair on a GPU."""

    gpu: Gpu
    offload: Offload
    peak: int
    """Bytes of its memory, without CUDA's own."""
    pair_s: float
    """Seconds for a pair, estimated."""

    @property
    def fits(self) -> bool:
        """Whether there is room for it."""
        return fits(self.peak, self.gpu.memory)


@dataclass(frozen=True)
class Measured:
    """What pairs that are drawn already have taken."""

    pairs: int
    pair_s: float
    """Seconds of one worker."""
    pair_bytes: float


@dataclass(frozen=True)
class PairsPlan:
    """What `count` pairs of a spec take."""

    spec: PairSpec
    count: int
    batch: int
    networks: list[Network]
    work: DrawingCost
    gpus: list[OnGpu]
    """None for float32."""
    measured: Measured | None

    @property
    def download(self) -> int:
        """Bytes."""
        return sum(network.download for network in self.networks)

    @property
    def storage(self) -> float:
        """Bytes of the data set."""
        size = 2 * PNG_BYTES_PX * self.spec.size**2 if self.measured is None else self.measured.pair_bytes
        return self.count * size


def plan(spec: PairSpec, count: int, batch: int = 4, drawn: Path | None = None) -> PairsPlan:
    """Plan `count` pairs, `batch` at a time.

    Args:
        drawn: a finished data set of the spec: its times and sizes are taken.

    Raises:
        UsageError: `drawn` is no finished data set of the spec.
        Failure: a configuration can't be had.
    """
    measured = None if drawn is None else measure_drawn(drawn, spec)
    parts = networks(spec)
    todo = drawing_cost(spec, parts, batch)
    gpus = []
    for gpu in GPUS if spec.dtype != "float32" else ():  # of which the peaks say nothing
        offload, peak = placed(spec, parts, todo, gpu.memory)
        gpus.append(OnGpu(gpu, offload, peak, pair_seconds(parts, todo, offload, gpu, batch)))
    return PairsPlan(spec, count, batch, parts, todo, gpus, measured)


def placed(spec: PairSpec, parts: list[Network], todo: DrawingCost, memory: int) -> tuple[Offload, int]:
    """Where the networks lie on a GPU of so many bytes, and the bytes of it at the peak of a pair."""
    offload = choose_offload([part.held for part in parts], memory, working_bytes(spec.size))
    return offload, peak_memory(parts, todo, offload)


def fits(peak: int, memory: int) -> bool:
    """Whether a GPU of so many bytes has room for a peak, beside CUDA itself."""
    return peak + CUDA <= memory


def peak_memory(parts: list[Network], todo: DrawingCost, offload: Offload) -> int:
    """Bytes of a GPU's memory at the peak of a pair."""
    if offload == "none":
        return sum(part.held for part in parts) + todo.activations
    most = 0
    for part in parts:
        held = part.held
        if part.part in DENOISERS:
            if offload == "group":
                held = int(held * parameters_at_once(part.model) / part.parameters)
            held += todo.activations + sum(other.held for other in parts if other.part == "vae")
        most = max(most, held)
    return most


def pair_seconds(parts: list[Network], todo: DrawingCost, offload: Offload, gpu: Gpu, batch: int) -> float:
    """Seconds a pair: operations at `SUSTAINED` of the GPU's peak, and what has to come over the bus for the batch.

    By `group` a step's weights come while it computes; the rest waits. What quantised weights take to be expanded is
    left out.
    """
    rate = gpu.peak * SUSTAINED
    seconds = (todo.student_flop + todo.teacher_flop) / rate
    for part in parts if offload != "none" else []:
        comes = part.held / BUS / batch
        if part.part not in DENOISERS or offload == "model":
            seconds += comes * (2 if part.side == "both" and not part.part.startswith("text_encoder") else 1)
            continue
        for side, flop, steps in (
            ("student", todo.student_flop, todo.student_steps),
            ("teacher", todo.teacher_flop, todo.teacher_steps),
        ):
            if part.side in (side, "both"):
                seconds += steps * max(0.0, comes - flop / rate / steps)
    return seconds


def measure_drawn(folder: Path, spec: PairSpec) -> Measured:
    """What the pairs of a data set took, from its `timings.csv` and shards.

    Raises:
        UsageError: no finished data set, or one of another spec.
    """
    pairs = Pairs(folder)
    if pairs.description.spec != spec.hash():
        raise UsageError(f"{folder} holds pairs of another spec ({pairs.description.pair.get('name')})")
    timings = read_timings(folder / TIMINGS)
    timings = timings[1:] or timings  # the first includes loading the teacher
    images = sum(timing.images for timing in timings)
    seconds = sum(timing.student_s + timing.teacher_s for timing in timings)
    size = sum(shard_path(folder, number).stat().st_size for number in range(pairs.description.shards))
    return Measured(images, seconds / images, size / len(pairs))


def show(made: PairsPlan, console: Console) -> None:
    """Print the plan in words and tables, as wide as the console."""
    for part in _parts(made):
        if isinstance(part, Table):
            console.print()
            part.show(console)
        else:
            console.print(Text(part))


def _parts(made: PairsPlan) -> list[str | Table]:
    spec, todo = made.spec, made.work
    said: list[str | Table] = [
        f"{spec.name}, {spec.size} px, batches of {made.batch}; steps: {todo.student_steps} of the student, "
        f"{todo.teacher_steps} of the teacher's {spec.teacher.steps}",
        Table(
            ("network", "of", "parameters", "held as", "in memory", "download", "from"),
            [
                (
                    part.part,
                    part.side,
                    _count_text(part.parameters),
                    _bits_text(part),
                    gigabytes(part.held),
                    gigabytes(part.download),
                    _where(part),
                )
                for part in made.networks
            ],
            keys=2,
        ),
        f"Download: {gigabytes(made.download)}. The CPU's memory holds what doesn't stay on the GPU, up to "
        f"{gigabytes(sum(part.held for part in made.networks))}.",
        f"Computed from the configurations: {todo.student_flop / 1e12:.4g} TFLOP for the student's image, "
        f"{todo.teacher_flop / 1e12:.4g} for the teacher's.",
    ]
    if made.gpus:
        said += [
            Table(
                ("GPU", "offload", "peak memory", "pairs a day", f"hours for {made.count:,}"),
                [(on.gpu.name, on.offload, gigabytes(on.peak), *_on(on, made.count)) for on in made.gpus],
            ),
            f"Estimated times, not measured: at {SUSTAINED:.0%} of the GPU's peak, and {BUS / 1e9:.0f} GB/s to it.",
        ]
    if made.measured is not None:
        day, hours = _rate(made.measured.pair_s, made.count)
        said.append(
            f"Measured here, on {made.measured.pairs} pairs: {made.measured.pair_s:.3g} s a pair, {day} a day by one "
            f"worker, {hours} hours for {made.count:,}."
        )
    source = f"{PNG_BYTES_PX} bytes a pixel, as FLUX's portraits" if made.measured is None else "as those drawn here"
    said.append(f"Storage: {gigabytes(made.storage)} ({source}).")
    return said


def _where(part: Network) -> str:
    return Path(part.place).name if Path(part.place).is_dir() else part.place


def _count_text(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def gigabytes(count: float) -> str:
    """Bytes in words: in GB, below one in MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _bits_text(part: Network) -> str:
    return f"{8 * part.held / part.parameters:.1f} bits"


def _on(on: OnGpu, count: int) -> tuple[str, str]:
    return _rate(on.pair_s, count) if on.fits else ("too small", "")


def _rate(pair_s: float, count: int) -> tuple[str, str]:
    return f"{DAY_S / pair_s:,.0f}", f"{count * pair_s / 3600:,.0f}"
