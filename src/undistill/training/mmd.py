"""Training on pairs and on whole distributions at once, without a discriminator."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from undistill.base.progress import progressed
from undistill.losses import LPIPS
from undistill.training.embedding import Embedding, RunningMMD, fit_embeddings
from undistill.training.method import Batch, Losses, Method, Networks, Outputs, Phase
from undistill.training.recipe import MmdRecipe, build_head
from undistill.training.schedule import linear_decay, warmup

EMBEDDED = 4096
"""Images a side, at most, that stand for all."""
WARM_UP = 0.05
"""Share of the run in which the learning rate rises."""


class Mmd(Method):
    """L = mmd x MMD^2(z, y) + lpips x LPIPS(y, z), with z = G(x). Ours.

    LPIPS(y, z) knows what the teacher makes of this student image, but alone it blurs, for no pair is aligned. MMD^2
    knows what teacher images are like, and holds the texture; `RunningMMD` says how it can be told from a batch.

    Args:
        training: the first of its images are embedded, up to EMBEDDED a side, unless a checkpoint knows them.
    """

    columns = ("loss_mmd", "loss_lpips")

    def __init__(self, fabric: Fabric, recipe: MmdRecipe, training: Dataset[Batch]) -> None:
        self.recipe = recipe
        self.training = training
        network = build_head(recipe.head)
        network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(fabric, recipe, {"G": network}, averaged=("G",))
        self.weights = {"loss_mmd": recipe.mmd, "loss_lpips": recipe.lpips}
        self.optimizers = {"generator": torch.optim.Adam(network.parameters(), lr=recipe.lr, betas=(0.9, 0.99))}
        self.phases = (Phase("generator", ("G",), self.losses, max_norm=1.0),)
        self.lpips = LPIPS().to(fabric.device)
        self.mmds = [
            RunningMMD(fabric, Embedding(self.lpips, side, recipe.seed), recipe.memory) for side in recipe.sides
        ]

    def prepare(self) -> None:
        if not all(mmd.fitted for mmd in self.mmds):
            fit_embeddings(self.fabric, self.mmds, self._images())

    def _images(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = min(EMBEDDED, len(self.training))  # type: ignore[arg-type]  # torch leaves __len__ out of Dataset
        loader = DataLoader(Subset(self.training, range(count)), 64)
        for x, y in progressed("embedding", loader, -(-count // 64)):
            yield x.to(self.fabric.device), y.to(self.fabric.device)

    def schedule(self, progress: float) -> float:
        """Rises, is constant, and falls linearly to 0 in the second half."""
        return linear_decay(progress) * warmup(progress, WARM_UP)

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        """The embeddings take turns."""
        self.mmd = self.mmds[step % len(self.mmds)]
        changes = (self._compare(self.mmd, batch, self.forward(self.wrapped, batch)[0])[0] for batch in batches)
        self.mmd.begin(len(batches), changes)

    def forward(self, networks: Networks, batch: Batch) -> Outputs:
        """z = G(x), (N, 3, H, W) in [-1, 1]."""
        return (networks["G"](batch[0]).float(),)

    def losses(self, networks: Networks, batch: Batch, outputs: Outputs) -> Losses:
        """MMD^2(z, y) and LPIPS(y, z), seen by one of the embeddings."""
        change, lpips = self._compare(self.mmd, batch, outputs[0])
        return {"loss_mmd": self.mmd.loss(change), "loss_lpips": lpips}

    def _compare(self, mmd: RunningMMD, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of phi(z) - phi(x), and LPIPS(y, z)."""
        x, y = batch
        with self.fabric.autocast():
            with torch.no_grad():
                before, wanted = mmd.embedding.maps(x), mmd.embedding.maps(y)
            after = mmd.embedding.maps(z)
        lpips = self.lpips.distance(self.lpips.normalised(wanted), self.lpips.normalised(after))
        return mmd.change(before, after), lpips

    def validation(self, batch: Batch) -> dict[str, Tensor]:
        """What all embeddings see: (embeddings, features) of phi(z) - phi(x), and LPIPS(y, z)."""
        with self.fabric.autocast():
            (z,) = self.forward(self.averaged, batch)
        changes, lpips = zip(*(self._compare(mmd, batch, z) for mmd in self.mmds), strict=True)
        return {"change": torch.stack(changes), "lpips": torch.stack(lpips).mean()}

    def figures(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """`val_loss`: the training loss, over all validation images and embeddings."""
        gaps = torch.stack([mmd.gap for mmd in self.mmds])
        mmd = (gaps + means["change"]).square().sum(1).mean()
        return {"val_loss": self.total({"loss_mmd": mmd, "loss_lpips": means["lpips"]})}

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: student, enhanced, teacher."""
        x, y = batch
        with self.fabric.autocast():
            return [x, self.averaged["G"](x), y]

    def extra_state(self) -> dict[str, Any]:
        return {"mmd": [mmd.state() for mmd in self.mmds]}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """An older state has no embeddings, only what was seen by them: `prepare` fits new ones, and forgets it."""
        for mmd, saved in zip(self.mmds, state.get("mmd", []), strict=False):
            mmd.load_state(saved)
