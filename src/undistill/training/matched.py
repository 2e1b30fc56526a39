"""Training on pairs and on whole distributions at once, without a discriminator."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset

from undistill.heads import Head
from undistill.losses import LPIPS
from undistill.progress import progressed
from undistill.training.adversarial import decayed, risen
from undistill.training.average import Average
from undistill.training.ranks import mean, total
from undistill.training.recipe import MatchedRecipe, build_head

Batch = tuple[Tensor, ...]

DIMENSIONS = 64
FREQUENCIES = 1024
EMBEDDED = 4096
"""Images a side, at most, that stand for all."""
RIDGE = 1e-4
_WARM_UP = 0.05
"""Share of the run in which the learning rate rises."""


class Embedding:
    """phi: the mean of phi over images stands for their distribution, at one scale of AlexNet.

    Each of the five rectified maps is summed up by means, standard deviations and means of its quarters over space,
    taken to the leading principal components of both sides, whitened as in metrics.distance, and from there to random
    Fourier features (Rahimi & Recht 2007) of its Gaussian kernel exp(-|a - b|^2 / 4d): |mean phi(z) - mean phi(y)|^2
    is the squared MMD (Gretton et al. 2012) of z and y.

    Args:
        lpips: its AlexNet is used.
        side: images are enlarged to it, px.
        seed: of the frequencies.
    """

    def __init__(self, lpips: LPIPS, side: int, seed: int) -> None:
        self.lpips = lpips
        self.side = side
        self.random = torch.Generator().manual_seed(seed)
        self.projections: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def maps(self, images: Tensor) -> list[Tensor]:
        large = F.interpolate(images, size=(self.side, self.side), mode="bicubic")
        return [x.float() for x in self.lpips.maps(large)]

    @staticmethod
    def pooled(maps: Sequence[Tensor]) -> list[Tensor]:
        """(N, 6C) for each map (N, C, H, W)."""
        return [torch.cat([x.mean((2, 3)), x.std((2, 3)), F.adaptive_avg_pool2d(x, 2).flatten(1)], dim=1) for x in maps]

    def fit(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> None:
        """To what `pooled` makes of both sides: (n, 6C) for each map."""
        for one, other in zip(x, y, strict=True):
            both = torch.cat([one, other]).double().cpu()
            centred = both - both.mean(0)
            variances, directions = torch.linalg.eigh(centred.T @ centred / len(both))
            kept = min(DIMENSIONS, both.shape[1])
            whiten = directions[:, -kept:] / (variances[-kept:] + RIDGE * variances[-1]).sqrt()
            waves = torch.randn(kept, FREQUENCIES, generator=self.random) / (2 * kept) ** 0.5
            phases = torch.rand(FREQUENCIES, generator=self.random) * 2 * torch.pi
            parts = (both.mean(0).float(), whiten.float(), waves, phases)
            mean, whitened, frequencies, shifts = (part.to(one.device) for part in parts)
            self.projections.append((mean, whitened, frequencies, shifts))

    def __call__(self, pooled: Sequence[Tensor]) -> Tensor:
        """(N, 5 x FREQUENCIES) of what `pooled` gives."""
        return torch.cat(
            [
                (2 / FREQUENCIES) ** 0.5 * torch.cos((some - mean) @ whiten @ waves + phases)
                for some, (mean, whiten, waves, phases) in zip(pooled, self.projections, strict=True)
            ],
            dim=1,
        )


class Matched:
    """L = mmd x MMD^2(z, y) + lpips x LPIPS(y, z), with z = G(x). Ours.

    LPIPS(y, z) knows what the teacher makes of this student image, but alone it blurs, for no pair is aligned. MMD^2
    knows what teacher images are like, and holds the texture. From a batch it would be hopelessly noisy: student and
    teacher differ by 0.003, the chance of 32 images is ten times that. But z lies near x, whose mean over all training
    images is known:

        mean phi(z) = mean over all of phi(x) + mean over the batch of (phi(z) - phi(x))

    (a control variate), the second term also averaged over the last steps with weight `memory`.

    Args:
        training: the first of its images are embedded, up to EMBEDDED a side.
    """

    columns: tuple[str, ...] = ("lr", "loss_mmd", "loss_lpips")
    validation_columns: tuple[str, ...] = ("val_loss",)

    def __init__(self, fabric: Fabric, recipe: MatchedRecipe, training: Dataset[Batch]) -> None:
        self.fabric = fabric
        self.recipe = recipe
        network = build_head(recipe.head)
        network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks: dict[str, nn.Module] = {"G": network}
        self.averages = {"G": Average(network, recipe.ema)}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "generator": torch.optim.Adam(network.parameters(), lr=recipe.lr, betas=(0.9, 0.99))
        }
        self.G = fabric.setup_module(network)
        self.lpips = LPIPS().to(fabric.device)
        self.embeddings = [Embedding(self.lpips, side, recipe.seed) for side in recipe.sides]
        self.gaps = self._fit(training)
        self.moved = [torch.zeros_like(gap) for gap in self.gaps]

    @torch.no_grad()
    def _fit(self, training: Dataset[Batch]) -> list[Tensor]:
        """Mean phi(x) - mean phi(y) over the images that the run begins with, for each embedding."""
        count = min(EMBEDDED, len(training))  # type: ignore[arg-type]  # torch leaves __len__ out of Dataset
        loader = DataLoader(Subset(training, range(count)), 64)
        seen: list[tuple[list[list[Tensor]], list[list[Tensor]]]] = [([], []) for _ in self.embeddings]
        for batch in progressed("embedding", loader, -(-count // 64), shown=self.fabric.is_global_zero):
            sides = [side.to(self.fabric.device) for side in batch]
            with self.fabric.autocast():
                for embedding, kept in zip(self.embeddings, seen, strict=True):
                    for side, pooled in zip(sides, kept, strict=True):
                        pooled.append(embedding.pooled(embedding.maps(side)))
        gaps = []
        for embedding, kept in zip(self.embeddings, seen, strict=True):
            x, y = ([torch.cat(maps) for maps in zip(*pooled, strict=True)] for pooled in kept)
            embedding.fit(x, y)
            gaps.append(embedding(x).mean(0) - embedding(y).mean(0))
        return gaps

    def learning_rate(self, progress: float) -> float:
        """Rises, is constant, and falls linearly to 0 in the second half. `progress` in [0, 1)."""
        return decayed(self.recipe.lr, progress) * risen(progress, _WARM_UP)

    def step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """One step of the generator over all the batches; the embeddings take turns."""
        turn = step % len(self.embeddings)
        share = 1 / len(batches)
        totals = dict.fromkeys(self.columns[1:], torch.zeros((), device=self.fabric.device))
        self.optimizers["generator"].zero_grad()
        for x, y in batches:
            z = self.G(x).float()
            moved, lpips = self._compare(turn, x, y, z)
            with torch.no_grad():
                self.moved[turn].lerp_(mean(self.fabric, moved), 1 - self.recipe.memory)
                left = self.gaps[turn] + self.moved[turn]
            # The gradient of |left|^2 through this batch alone, at the length of a whole one.
            mmd = left.square().sum() + 2 * (left * (moved - moved.detach())).sum()
            self.fabric.backward(self._weighted(mmd, lpips) * share)
            for name, loss in (("loss_mmd", mmd), ("loss_lpips", lpips)):
                totals[name] = totals[name] + loss.detach() * share
        nn.utils.clip_grad_norm_(self.networks["G"].parameters(), 1.0)
        self.optimizers["generator"].step()
        self.averages["G"].update(self.networks["G"], step)
        return totals

    def _compare(self, turn: int, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of phi(z) - phi(x), and LPIPS(y, z), seen by one of the embeddings."""
        embedding = self.embeddings[turn]
        with self.fabric.autocast():
            with torch.no_grad():
                before, wanted = embedding.maps(x), embedding.maps(y)
            after = embedding.maps(z)
        moved = (embedding(embedding.pooled(after)) - embedding(embedding.pooled(before))).mean(0)
        return moved, self.lpips.distance(self.lpips.normalised(wanted), self.lpips.normalised(after))

    def _weighted(self, mmd: Tensor, lpips: Tensor) -> Tensor:
        return self.recipe.mmd * mmd + self.recipe.lpips * lpips

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """`val_loss`: the training loss, over all validation images and embeddings."""
        moved = torch.stack([torch.zeros_like(gap) for gap in self.gaps])
        lpips, count = moved.new_zeros(()), moved.new_zeros(())
        for x, y in batches:
            with self.fabric.autocast():
                z = self.averages["G"].module(x).float()
            for turn in range(len(self.embeddings)):
                here, distance = self._compare(turn, x, y, z)
                moved[turn] += here * len(x)
                lpips += distance * len(x) / len(self.embeddings)
            count += len(x)
        moved, lpips, count = (total(self.fabric, summed) for summed in (moved, lpips, count))
        mmd = (torch.stack(self.gaps) + moved / count).square().sum(1)
        return {"val_loss": float(self._weighted(mmd.mean(), lpips / count))}

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: student, enhanced, teacher."""
        x, y = batch
        with self.fabric.autocast():
            return [x, self.averages["G"].module(x), y]

    def head(self) -> Head:
        """The moving average of the generator."""
        head = self.averages["G"].module
        assert isinstance(head, Head)
        return head

    def extra_state(self) -> dict[str, Any]:
        return {"moved": self.moved}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.moved = [moved.to(self.fabric.device) for moved in state["moved"]]
