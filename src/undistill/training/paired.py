"""The paper's paired training: structure from the student, looks from the teacher."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from undistill.heads import Head
from undistill.losses import LPIPS, gradient, l1
from undistill.training.adversarial import risen
from undistill.training.average import Average
from undistill.training.ranks import averaged
from undistill.training.recipe import PairedRecipe, build_head

Batch = tuple[Tensor, ...]


class Paired:
    """L = GRAD(x, z) + LPIPS(y, z), with z = G(x); by recipe L1(x, z) or nothing in GRAD's place (section 5.1)."""

    columns: tuple[str, ...] = ("lr", "loss_structure", "loss_lpips")
    validation_columns: tuple[str, ...] = ("val_loss",)

    def __init__(self, fabric: Fabric, recipe: PairedRecipe) -> None:
        self.fabric = fabric
        self.recipe = recipe
        network = build_head(recipe.head)
        network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks: dict[str, nn.Module] = {"G": network}
        self.averages = {"G": Average(network, recipe.ema)}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "generator": torch.optim.Adam(network.parameters(), lr=recipe.lr)
        }
        self.G = fabric.setup_module(network)
        self.lpips = LPIPS().to(fabric.device)

    def learning_rate(self, progress: float) -> float:
        """Rises, and is constant from then on. `progress` in [0, 1)."""
        return self.recipe.lr * risen(progress, self.recipe.warmup)

    def losses(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """The structure term and LPIPS(y, z)."""
        match self.recipe.structure:
            case "gradient":
                structure = gradient(x, z)
            case "l1":
                structure = l1(x, z)
            case "none":
                structure = torch.zeros((), device=z.device)
        with self.fabric.autocast():
            return structure, self.lpips(y, z)

    def step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """One step of the generator over all the batches."""
        totals = dict.fromkeys(self.columns[1:], torch.zeros((), device=self.fabric.device))
        self.optimizers["generator"].zero_grad()
        for x, y in batches:
            structure, lpips = self.losses(x, y, self.G(x))
            self.fabric.backward((structure + lpips) / len(batches))
            totals["loss_structure"] = totals["loss_structure"] + structure.detach() / len(batches)
            totals["loss_lpips"] = totals["loss_lpips"] + lpips.detach() / len(batches)
        self.optimizers["generator"].step()
        self.averages["G"].update(self.networks["G"], step)
        return totals

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """`val_loss`: the training loss on the validation images."""
        losses: list[float] = []
        for x, y in batches:
            with self.fabric.autocast():
                z = self.averages["G"].module(x)
            losses.append(float(sum(self.losses(x, y, z))))
        return averaged(self.fabric, {"val_loss": sum(losses)}, len(losses))

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
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        pass
