"""Training tiny's transformers: the flow, guidance built into it, and the same in four steps."""

import math
from itertools import pairwise
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKL
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from research.tiny.model import Velocity, follow, schedule, shifted
from research.tiny.muon import Muon
from research.tiny.recipe import DistillationRecipe, GuidanceRecipe, TransformerRecipe
from undistill.training.method import Batch, Losses, Method, Networks, Outputs, Phase
from undistill.training.schedule import linear_decay

SHOWN_AT = 3.0
"""Guidance of sample grids: the teacher's."""
SHOWN_STEPS = 20


class Lesson(Protocol):
    """What a network is to say at a point of a course."""

    def __call__(self, network: Any, batch: Batch, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """The network's velocity and the right one, of one shape."""

    def picture(self, network: Velocity, batch: Batch, noise: Tensor) -> Tensor:
        """Latents that the network makes of noise and the batch's captions."""


class Flow(Method):
    """Mean squared error of velocities, an average of the weights. What is right says the lesson."""

    columns = ("loss_velocity",)

    def __init__(
        self, fabric: Fabric, recipe: TransformerRecipe, network: Velocity, lesson: Lesson, vae: AutoencoderKL
    ) -> None:
        self.recipe = recipe
        self.lesson = lesson
        self.vae = vae.to(fabric.device)
        network.to(fabric.device)
        super().__init__(fabric, recipe, {"flow": network}, averaged=("flow",))
        self.wrapped["flow"].mark_forward_method("encode")
        self.optimizers = _optimizers(recipe, network)
        self.phases = (Phase("flow", ("flow",), self.losses, max_norm=1.0),)

    def wrap(self, network: nn.Module) -> Any:
        if self.recipe.compiled:
            assert isinstance(network, Velocity)
            compile_transformer(network)
        return self.fabric.setup_module(network)

    def schedule(self, progress: float) -> float:
        """Warm-up, constant, and over the last 40% of the run a fall to 3%."""
        warm = min(1.0, (progress * self.recipe.steps + 1) / max(1, self.recipe.warmup))
        return warm * linear_decay(progress, start=0.6, end=0.03)

    def begin(self, step: int, batches: object) -> None:
        self.random = torch.Generator(self.fabric.device).manual_seed(self.recipe.seed * 1_000_003 + step)

    def forward(self, networks: Networks, batch: Batch) -> Outputs:
        """The network's velocity and the right one."""
        # Attention over so few tokens is a seventh faster without the fused kernel, on a CPU.
        with self.fabric.autocast(), sdpa_kernel(SDPBackend.MATH):
            return self.lesson(networks["flow"], batch, self.random)

    def losses(self, networks: Networks, batch: Batch, outputs: Outputs) -> Losses:
        """Mean squared error of the velocity, a scalar."""
        said, right = outputs
        return {"loss_velocity": F.mse_loss(said.float(), right)}

    def validation(self, batch: Batch) -> dict[str, Tensor]:
        """`val_loss`: the average's loss on held-out faces, at points that are the same every time."""
        random = torch.Generator(self.fabric.device).manual_seed(self.recipe.seed)
        with self.fabric.autocast():
            said, right = self.lesson(self.average, batch, random)
        return {"val_loss": F.mse_loss(said.float(), right)}

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: the held-out faces, then what the average draws for their captions, twice."""
        latents = [batch[0]]
        for seed in range(2):
            random = torch.Generator().manual_seed(seed)
            noise = torch.randn(batch[0].shape, generator=random).to(self.fabric.device)
            with self.fabric.autocast():
                latents.append(self.lesson.picture(self.average, batch, noise))
        config = self.vae.config
        return [self.vae.decode(x / config.scaling_factor + config.shift_factor).sample for x in latents]

    @property
    def average(self) -> Velocity:
        """The moving average of the network, which is validated and exported."""
        network = self.averages["flow"].module
        assert isinstance(network, Velocity)
        return network


def _optimizers(recipe: TransformerRecipe, network: Velocity) -> dict[str, torch.optim.Optimizer]:
    """AdamW, named flow; with muon, that of the matrices in the transformer's blocks, which steps when AdamW has."""
    learned = {name: weights for name, weights in network.named_parameters() if weights.requires_grad}
    hidden = [name for name, weights in learned.items() if recipe.muon and "blocks." in name and weights.ndim == 2]
    matrices = [learned.pop(name) for name in hidden]
    adam = torch.optim.AdamW(learned.values(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.01)
    if not matrices:
        return {"flow": adam}
    muon = Muon(matrices, recipe.lr)

    def follows(*_: object) -> None:
        muon.step()
        muon.zero_grad()

    adam.register_step_post_hook(follows)
    return {"flow": adam, "muon": muon}


def compile_transformer(network: Velocity) -> None:
    """In place: same weights, same results up to rounding."""
    network.transformer.compile(dynamic=False)


def dev_schedule(steps: int, latents: Tensor, start: float = 1.0, stop: float = 0.0) -> list[float]:
    """FluxPipeline's for these latents: the more tokens, the more of the steps are near noise (`calculate_shift`)."""
    tokens = latents.shape[-2] * latents.shape[-1] // 4
    return schedule(steps, math.exp(0.5 + (tokens - 256) * (1.15 - 0.5) / (4096 - 256)), start, stop)


def interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x + t e, `t` (N,)."""
    t = t.view(-1, 1, 1, 1)
    return (1 - t) * x + t * noise


def draw_noise(x: Tensor, random: torch.Generator, shift: float) -> tuple[Tensor, Tensor]:
    """Noise like x, and t as sigmoid of a normal: the middle oftener (Esser et al. 2024, eq. 19); then shifted."""
    noise = torch.randn(x.shape, generator=random, device=x.device)
    t = torch.sigmoid(torch.randn(len(x), generator=random, device=x.device))
    return noise, shifted(t, shift)


class Straight:
    """The flow from noise to faces with their captions; guidance is told to be 1.

    Batches: latents, T5's ids, CLIP's ids.
    """

    def __init__(self, empty: tuple[Tensor, Tensor], shift: float) -> None:
        self.empty = empty
        self.shift = shift

    def __call__(self, network: Any, batch: Batch, random: torch.Generator) -> tuple[Tensor, Tensor]:
        x, *ids = batch
        noise, t = draw_noise(x, random, self.shift)
        said = network(interpolate(x, noise, t), t, network.encode(*ids), torch.ones_like(t))
        return said, noise - x

    def picture(self, network: Velocity, batch: Batch, noise: Tensor) -> Tensor:
        text, empty = network.encode(*batch[1:]), network.encode(*self.empty)
        by = torch.full((len(noise),), SHOWN_AT, device=noise.device)
        return follow(lambda x, t: network.guided(x, t, text, empty, by), noise, dev_schedule(SHOWN_STEPS, noise))


class Guided:
    """Guidance in one pass (Meng et al. 2023, stage one): what the flow says with and without the caption, combined.

    Batches: latents, T5's ids, CLIP's ids.
    """

    def __init__(self, flow: Velocity, empty: tuple[Tensor, Tensor], recipe: GuidanceRecipe) -> None:
        self.flow = flow.eval().requires_grad_(False)
        self.empty = self.flow.encode(*empty)
        self.recipe = recipe

    def __call__(self, network: Any, batch: Batch, random: torch.Generator) -> tuple[Tensor, Tensor]:
        x, *ids = batch
        noise, t = draw_noise(x, random, self.recipe.shift)
        by = 1 + (self.recipe.strongest - 1) * torch.rand(len(x), generator=random, device=x.device)
        point = interpolate(x, noise, t)
        with torch.no_grad():
            text = self.flow.encode(*ids)
            right = self.flow.guided(point, t, text, self.empty, by)
        return network(point, t, text, by), right.float()

    def picture(self, network: Velocity, batch: Batch, noise: Tensor) -> Tensor:
        text = network.encode(*batch[1:])
        by = torch.full((len(noise),), SHOWN_AT, device=noise.device)
        return follow(lambda x, t: network(x, t, text, by), noise, dev_schedule(SHOWN_STEPS, noise))


class Shortened:
    """A flow made straight (Liu et al. 2023, reflow): from the very noise from which tiny-dev came to the image.

    Where courses no longer cross, one large step is as good as many small ones; what it must guess it averages, and
    detail is lost. Batches: latents that tiny-dev ended at, T5's ids, CLIP's ids, and the noise that it began with.
    """

    def __call__(self, network: Any, batch: Batch, random: torch.Generator) -> tuple[Tensor, Tensor]:
        x, *ids, noise = batch
        # Half of them where four steps start.
        anywhere = torch.rand(len(x), generator=random, device=x.device)
        stops = torch.randint(1, 5, (len(x),), generator=random, device=x.device) / 4
        t = torch.where(torch.rand(len(x), generator=random, device=x.device) < 0.5, stops, anywhere)
        return network(interpolate(x, noise, t), t, network.encode(*ids), None), noise - x

    def picture(self, network: Velocity, batch: Batch, noise: Tensor) -> Tensor:
        text = network.encode(*batch[1:3])
        return follow(lambda x, t: network(x, t, text, None), noise, schedule(4, 1.0))


class Segments:
    """Plain distillation (Salimans & Ho 2022): one step of the student goes where several of the teacher's go.

    Time is cut into equal segments, one a step. What lies far from the straight way between their ends the student
    averages. Batches: latents, T5's ids, CLIP's ids; of each latent every segment is learned.
    """

    def __init__(self, dev: Velocity, recipe: DistillationRecipe) -> None:
        self.dev = dev.eval().requires_grad_(False)
        self.recipe = recipe
        self.ends = [1 - k / recipe.segments for k in range(recipe.segments + 1)]

    def __call__(self, network: Any, batch: Batch, random: torch.Generator) -> tuple[Tensor, Tensor]:
        x, *ids = batch
        noise = torch.randn(x.shape, generator=random, device=x.device)
        text = self.dev.encode(*ids)
        begins, right, times = [], [], []
        end = noise
        for start, stop in pairwise(self.ends):
            t = torch.full((len(x),), start, device=x.device)
            begin = end if self.recipe.begin == "courses" else interpolate(x, noise, t)
            end = self._taught(begin, text, start, stop)
            begins.append(begin)
            right.append((begin - end) / (start - stop))
            times.append(t)
        texts = text[0].repeat(len(times), 1, 1), text[1].repeat(len(times), 1)
        return network(torch.cat(begins), torch.cat(times), texts, None), torch.cat(right)

    def _taught(self, x: Tensor, text: tuple[Tensor, Tensor], start: float, stop: float) -> Tensor:
        """Where the teacher comes to, by steps as its scheduler spaces them."""
        by = torch.full((len(x),), self.recipe.guidance, device=x.device)
        times = dev_schedule(self.recipe.teacher_steps, x, start, stop)
        return follow(lambda x, t: self.dev(x, t, text, by), x, times)

    def picture(self, network: Velocity, batch: Batch, noise: Tensor) -> Tensor:
        text = network.encode(*batch[1:])
        return follow(lambda x, t: network(x, t, text, None), noise, schedule(self.recipe.segments, 1.0))
