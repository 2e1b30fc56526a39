"""Training on pairs and on whole distributions at once, without a discriminator."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from undistill.base.progress import progressed
from undistill.losses import LPIPS, Backbone, chroma, even, neutral, tone
from undistill.training.embedding import CORNERS, MIDDLE, Embedding, Place, RunningMMD, fit_embeddings
from undistill.training.method import Batch, Losses, Method, Networks, Outputs, Phase
from undistill.training.recipe import MmdRecipe, build_head
from undistill.training.schedule import linear_decay, warmup
from undistill.training.steerable import Steerable

EMBEDDED = 4096
"""Images a side, at most, that stand for all."""
WARM_UP = 0.05
"""Share of the run in which the learning rate rises."""


class Mmd(Method):
    """L = mmd x MMD^2(z, y) + lpips x LPIPS(y, z), with z = G(x). Ours.

    LPIPS(y, z) knows what the teacher makes of this student image, but alone it blurs, for no pair is aligned. MMD^2
    knows what teacher images are like, and holds the texture; `RunningMMD` says how it can be told from a batch.

    Without pairs LPIPS(x, z) holds the output to its own input, so that MMD^2 moves what it must and no more; `tone`,
    `chroma` and `neutral` hold light, colour and greys, and `even` has skin of every tone turn alike in hue. That is a
    matter of batches, not of images, so it is no part of `val_loss`.

    Args:
        training: the first of its images are embedded, up to EMBEDDED a side, unless a checkpoint knows them.
        counts: how many images each side has; the smaller side's come several times in `training`.
    """

    columns = ("loss_mmd", "loss_lpips", "loss_tone", "loss_chroma", "loss_neutral", "loss_even")

    def __init__(self, fabric: Fabric, recipe: MmdRecipe, training: Dataset[Batch], counts: tuple[int, int]) -> None:
        self.recipe = recipe
        self.training = training
        self.counts = counts
        network = build_head(recipe.head)
        network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(fabric, recipe, {"G": network}, averaged=("G",))
        self.weights = {column: getattr(recipe, column.removeprefix("loss_")) for column in self.columns}
        self.optimizers = {"generator": torch.optim.Adam(network.parameters(), lr=recipe.lr, betas=(0.9, 0.99))}
        self.phases = (Phase("generator", ("G",), self.losses, max_norm=1.0),)
        self.lpips = LPIPS().to(fabric.device)
        networks = [self._network(name).to(fabric.device) for name in recipe.features]
        regions = (MIDDLE,) if recipe.view is None else (MIDDLE, CORNERS)
        self.mmds = [
            RunningMMD(fabric, Embedding(network, side, recipe.seed, recipe.view, places), recipe.memory)
            for network, side, places in product(networks, recipe.sides, regions)
        ]

    def _network(self, name: Backbone | Literal["steerable"]) -> LPIPS | Steerable:
        if name == "alex":
            return self.lpips
        return Steerable() if name == "steerable" else LPIPS(name)

    def prepare(self) -> None:
        if not all(mmd.fitted for mmd in self.mmds):
            fit_embeddings(self.fabric, self.mmds, self._images(), self.recipe.dimensions, shrink=self.recipe.shrink)

    def _images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of both sides, each image once: a batch of the smaller side's may be shorter, or empty."""
        count = min(EMBEDDED, max(self.counts))
        loader = DataLoader(Subset(self.training, range(count)), 64)
        for first, batch in zip(range(0, count, 64), progressed("embedding", loader, -(-count // 64)), strict=True):
            x, y = (
                side[: max(0, of_side - first)].to(self.fabric.device)
                for side, of_side in zip(batch, self.counts, strict=True)
            )
            yield x, y

    def schedule(self, progress: float) -> float:
        """Rises, is constant, and falls linearly to 0 in the second half."""
        return linear_decay(progress) * warmup(progress, WARM_UP)

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        """The embeddings take turns, and so do the places that each of them looks at."""
        turn, number = divmod(step, len(self.mmds))
        self.mmd = self.mmds[number]
        self.place = self.mmd.embedding.places[turn % len(self.mmd.embedding.places)]
        outputs = ((batch, self.forward(self.wrapped, batch)[0]) for batch in batches)
        changes = (self._change(batch[0], z) for batch, z in outputs)
        self.mmd.begin(len(batches), changes)

    def forward(self, networks: Networks, batch: Batch) -> Outputs:
        """z = G(x), (N, 3, H, W) in [-1, 1]."""
        return (networks["G"](batch[0]).float(),)

    def losses(self, networks: Networks, batch: Batch, outputs: Outputs) -> Losses:
        """MMD^2(z, y) and LPIPS(y, z) or LPIPS(x, z), seen by one of the embeddings, and what holds z to x."""
        change, lpips = self._compare(self.mmd, self.place, batch, outputs[0])
        x, z = batch[0], outputs[0]
        unlike = {"loss_even": even(x, z)} if self.weights["loss_even"] else {}
        return {"loss_mmd": self.mmd.loss(change), "loss_lpips": lpips, **self._fidelity_losses(x, z), **unlike}

    def _fidelity_losses(self, x: Tensor, z: Tensor) -> Losses:
        losses = {"loss_tone": tone, "loss_chroma": chroma, "loss_neutral": neutral}
        return {column: loss(x, z) for column, loss in losses.items() if self.weights[column]}

    def _change(self, x: Tensor, z: Tensor) -> Tensor:
        """The mean of phi(z) - phi(x), as this step's embedding sees it."""
        embedding = self.mmd.embedding
        with self.fabric.autocast():
            before, after = (embedding.maps(embedding.seen(images, self.place)) for images in (x, z))
        return self.mmd.change(before, after)

    def _compare(self, mmd: RunningMMD, place: Place, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of phi(z) - phi(x), and LPIPS."""
        embedding, network = mmd.embedding, mmd.embedding.network
        x, z = (embedding.seen(images, place) for images in (batch[0], z))
        y = x if self.recipe.anchor == "student" else embedding.seen(batch[1], place)
        with self.fabric.autocast():
            with torch.no_grad():
                before = embedding.maps(x)
            after = embedding.maps(z)
            if not isinstance(network, LPIPS):
                return mmd.change(before, after), self.lpips(y, z)
            with torch.no_grad():
                wanted = before if y is x else embedding.maps(y)
        return mmd.change(before, after), network.distance(network.normalised(wanted), network.normalised(after))

    def validation(self, batch: Batch) -> dict[str, Tensor]:
        """What all embeddings see at all places: (embeddings, features) of phi(z) - phi(x), and LPIPS; and the rest."""
        with self.fabric.autocast():
            (z,) = self.forward(self.averaged, batch)
        changes, distances = [], []
        for mmd in self.mmds:
            seen = [self._compare(mmd, place, batch, z) for place in mmd.embedding.places]
            changes.append(torch.stack([change for change, _ in seen]).mean(0))
            distances += [lpips for _, lpips in seen]
        lpips = torch.stack(distances).mean()
        return {"change": torch.stack(changes), "loss_lpips": lpips, **self._fidelity_losses(batch[0], z)}

    def figures(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """`val_loss`: the training loss, over all validation images and embeddings."""
        gaps = torch.stack([mmd.gap for mmd in self.mmds])
        others = {column: mean for column, mean in means.items() if column in self.columns}
        return {"val_loss": self.total({"loss_mmd": (gaps + means["change"]).square().sum(1).mean(), **others})}

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
