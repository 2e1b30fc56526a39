"""How far outputs are from the teacher's images as distributions: MMD^2 on a network's maps, from small batches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from undistill.metrics.whitening import DIMENSIONS, Moments, Whitening
from undistill.training import ranks

FREQUENCIES = 1024


@dataclass(frozen=True, eq=False)
class FourierFeatures:
    """From the (N, D) features of a map to (N, FREQUENCIES) random Fourier features (Rahimi & Recht 2007).

    sqrt(2 / FREQUENCIES) cos(f(features) @ frequencies + phases), f bringing them to d whitened principal components:
    their products approach the Gaussian kernel exp(-|a - b|^2 / 4d) of f(a) and f(b).

    Args:
        mean: (D,) of the features.
        whiten: (D, d).
        frequencies: (d, FREQUENCIES).
        phases: (FREQUENCIES,) in [0, 2 pi).
    """

    mean: Tensor
    whiten: Tensor
    frequencies: Tensor
    phases: Tensor

    @classmethod
    def fitted(cls, x: Tensor, y: Tensor, random: torch.Generator, dimensions: int = DIMENSIONS) -> "FourierFeatures":
        """To the features of both sides, (n, D) each, together; d is `dimensions` at most."""
        rows = torch.cat([x, y]).cpu().numpy().astype(np.float64)
        count, width = rows.shape
        # Fewer rows than numbers in each span a space with as many dimensions as there are rows: seconds are saved.
        basis = np.linalg.qr(rows.T)[0] if count < width else np.eye(width)
        whitening = Whitening(Moments.of(rows @ basis), dimensions)
        kept = len(whitening.spread)
        parts = (basis @ whitening.mean, basis @ (whitening.directions / whitening.spread))
        # Contiguous, as a checkpoint gives them back: products of other layouts are rounded otherwise.
        mean, whiten = (torch.from_numpy(part.astype(np.float32, order="C")).to(x.device) for part in parts)
        frequencies = torch.randn(kept, FREQUENCIES, generator=random) / (2 * kept) ** 0.5
        phases = torch.rand(FREQUENCIES, generator=random) * 2 * torch.pi
        return cls(mean, whiten, frequencies.to(x.device), phases.to(x.device))

    def __call__(self, features: Tensor) -> Tensor:
        whitened = (features - self.mean) @ self.whiten
        return torch.cos(whitened @ self.frequencies + self.phases).mul((2 / FREQUENCIES) ** 0.5)


Place = tuple[float, float]
"""Of a view in an image: the parts of what is left over that lie above it and before it."""
MIDDLE: tuple[Place, ...] = ((0.5, 0.5),)
CORNERS: tuple[Place, ...] = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))


class Network(Protocol):
    """What looks at images."""

    def maps(self, images: Tensor) -> list[Tensor]:
        """Rectified maps, (N, C, H, W) each, of images (N, 3, H, W) in [-1, 1]."""


class Embedding:
    """phi: the mean of phi over images stands for their distribution, at one scale of a network.

    Each of its rectified maps is summed up by means, standard deviations and means of its quarters over space, and
    projected: |mean phi(z) - mean phi(y)|^2 is the squared MMD (Gretton et al. 2012) of z and y, summed over the maps.

    Args:
        network: what looks.
        side: what is looked at is resized to it, px.
        seed: of the frequencies.
        view: side of the square of an image that is looked at, px; None: all of it.
        places: where these squares lie.
    """

    def __init__(
        self, network: Network, side: int, seed: int, view: int | None = None, places: Sequence[Place] = MIDDLE
    ) -> None:
        self.network = network
        self.side = side
        self.seed = seed
        self.view = view
        self.places = places
        self.projections: list[FourierFeatures] = []

    def seen(self, images: Tensor, place: Place = MIDDLE[0]) -> Tensor:
        """What is looked at of images (N, 3, H, W) in [-1, 1], (N, 3, side, side)."""
        if self.view is not None:
            (top, left), (height, width) = place, images.shape[-2:]
            row, column = round(top * (height - self.view)), round(left * (width - self.view))
            images = images[..., row : row + self.view, column : column + self.view]
        if images.shape[-2:] != (self.side, self.side):
            images = F.interpolate(images, size=(self.side, self.side), mode="bicubic")
        return images

    def maps(self, seen: Tensor) -> list[Tensor]:
        """The network's maps, (N, C, H, W) each, of what `seen` gives."""
        return [x.float() for x in self.network.maps(seen)]

    @staticmethod
    def pooled(maps: Sequence[Tensor]) -> list[Tensor]:
        """(N, 6C) for each map (N, C, H, W)."""
        return [torch.cat([x.mean((2, 3)), x.std((2, 3)), F.adaptive_avg_pool2d(x, 2).flatten(1)], dim=1) for x in maps]

    def everywhere(self, images: Tensor) -> list[Tensor]:
        """What `pooled` makes of images at each of the places: (N, places, 6C) for each map."""
        seen = [self.pooled(self.maps(self.seen(images, place))) for place in self.places]
        return [torch.stack(of_map, dim=1) for of_map in zip(*seen, strict=True)]

    def fit(self, x: Sequence[Tensor], y: Sequence[Tensor], dimensions: int = DIMENSIONS) -> None:
        """To what `everywhere` makes of both sides: (n, places, 6C) for each map."""
        random = torch.Generator().manual_seed(self.seed)
        self.projections = [
            FourierFeatures.fitted(one.flatten(0, 1), other.flatten(0, 1), random, dimensions)
            for one, other in zip(x, y, strict=True)
        ]

    def __call__(self, pooled: Sequence[Tensor]) -> Tensor:
        """(..., maps x FREQUENCIES) of what `pooled` or `everywhere` gives."""
        return torch.cat([project(some) for project, some in zip(self.projections, pooled, strict=True)], dim=-1)


class RunningMMD:
    """MMD^2(z, y) from batches of z, seen by one embedding.

    From a batch alone it would be hopelessly noisy: student and teacher differ by 0.003, the chance of 32 images is ten
    times that. But z lies near x, and the mean of phi(x) - phi(y) over all images, the gap, is known:

        mean phi(z) - mean phi(y) = gap + mean over the batch of (phi(z) - phi(x))

    (a control variate), the second term also averaged over the last steps with weight `memory`.
    """

    def __init__(self, fabric: Fabric, embedding: Embedding, memory: float) -> None:
        self.fabric = fabric
        self.embedding = embedding
        self.memory = memory
        self.gap = torch.zeros(0)
        self.moved = torch.zeros(0)

    @property
    def fitted(self) -> bool:
        """Whether the embedding is fitted, by `fit_embeddings` or from a checkpoint."""
        return bool(self.embedding.projections)

    def change(self, x: Sequence[Tensor], z: Sequence[Tensor]) -> Tensor:
        """The mean of phi(z) - phi(x), from the maps of a batch."""
        pooled = (self.embedding.pooled(maps) for maps in (x, z))
        before, after = (self.embedding(each) for each in pooled)
        return (after - before).mean(0)

    @torch.no_grad()
    def begin(self, batches: int, changes: Iterable[Tensor]) -> None:
        """Begin a step: what several batches change together must be known before the first gradient.

        Args:
            changes: of the batches; not asked for if it is only one, whose change `loss` is told.
        """
        self.known = batches > 1
        if self.known:
            self._remember(torch.stack(list(changes)).mean(0))

    def _remember(self, change: Tensor) -> None:
        """Take the change of a whole step, of which this rank has seen its share, into the moving mean."""
        self.moved.lerp_(ranks.mean(self.fabric, change.detach()), 1 - self.memory)

    def loss(self, change: Tensor) -> Tensor:
        """MMD^2 by the moving mean; its gradient goes through this batch's change alone, at the length of a whole one.

        The mean of these gradients over the batches of a step is that of one large batch.
        """
        if not self.known:
            self._remember(change)
        left = self.gap + self.moved
        return left.square().sum() + 2 * (left * (change - change.detach())).sum()

    def state(self) -> dict[str, Any]:
        """For a checkpoint, on the CPU."""
        projections = [{name: part.cpu() for name, part in vars(each).items()} for each in self.embedding.projections]
        return {"gap": self.gap.cpu(), "moved": self.moved.cpu(), "projections": projections}

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        device = self.fabric.device
        self.gap, self.moved = (state[name].to(device) for name in ("gap", "moved"))
        self.embedding.projections = [
            FourierFeatures(**{name: part.to(device) for name, part in parts.items()}) for parts in state["projections"]
        ]


@torch.no_grad()
def fit_embeddings(
    fabric: Fabric,
    mmds: Sequence[RunningMMD],
    images: Iterable[tuple[Tensor, Tensor]],
    dimensions: int = DIMENSIONS,
    *,
    shrink: bool = False,
) -> None:
    """Fit the embeddings to images of both sides, and find the gap between these: on the first rank, for all.

    Args:
        images: batches of x, (N, 3, H, W), and y, (M, 3, H, W), on the device; only the first rank asks for them.
        dimensions: of the whitened features, at most.
        shrink: see `shrunk`.
    """
    if fabric.is_global_zero:
        seen: list[tuple[list[list[Tensor]], list[list[Tensor]]]] = [([], []) for _ in mmds]
        for batch in images:
            with fabric.autocast():
                for mmd, kept in zip(mmds, seen, strict=True):
                    for side, pooled in zip(batch, kept, strict=True):
                        if len(side):
                            pooled.append(mmd.embedding.everywhere(side))
        for mmd, kept in zip(mmds, seen, strict=True):
            x, y = ([torch.cat(maps) for maps in zip(*pooled, strict=True)] for pooled in kept)
            mmd.embedding.fit(x, y, dimensions)
            maps = zip(*(mmd.embedding(side).mean(1).chunk(len(side), dim=1) for side in (x, y)), strict=True)
            mmd.gap = torch.cat([shrunk(a, b) if shrink else a.mean(0) - b.mean(0) for a, b in maps])
            mmd.moved = torch.zeros_like(mmd.gap)
    for mmd, state in zip(mmds, fabric.broadcast([mmd.state() for mmd in mmds]), strict=True):
        mmd.load_state(state)


def shrunk(x: Tensor, y: Tensor) -> Tensor:
    """(F,): the difference of the means of x (n, F) and y (m, F), without what is likely chance.

    Of few images most of the squared difference is: along each direction in which the means vary, with variance v, the
    difference d counts as d max(0, 1 - v / d^2) (positive-part James & Stein 1961).

    Rows count as independent: an image must not come twice.
    """
    difference = (x.mean(0) - y.mean(0)).double()
    chance = torch.cov(x.T.double()) / len(x) + torch.cov(y.T.double()) / len(y)
    variances, directions = torch.linalg.eigh(chance)
    along = directions.T @ difference
    kept = (1 - variances.clamp_min(0) / along.square().clamp_min(1e-30)).clamp_min(0)
    likely: Tensor = directions @ (kept * along)
    return likely.float()
