"""The paper's paired training: structure from the student, looks from the teacher."""

import torch
from lightning_fabric import Fabric
from torch import Tensor

from undistill.losses import LPIPS, gradient, l1
from undistill.training.method import Batch, Losses, Method, Networks, Outputs, Phase
from undistill.training.recipe import PairedRecipe, build_head
from undistill.training.schedule import warmup


class Paired(Method):
    """L = GRAD(x, z) + LPIPS(y, z), with z = G(x); by recipe L1(x, z) or nothing in GRAD's place (section 5.1)."""

    columns = ("loss_structure", "loss_lpips")

    def __init__(self, fabric: Fabric, recipe: PairedRecipe) -> None:
        self.recipe = recipe
        network = build_head(recipe.head)
        network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(fabric, recipe, {"G": network}, averaged=("G",))
        self.optimizers = {"generator": torch.optim.Adam(network.parameters(), lr=recipe.lr)}
        self.phases = (Phase("generator", ("G",), self.losses),)
        self.lpips = LPIPS().to(fabric.device)

    def schedule(self, progress: float) -> float:
        """Rises, and is constant from then on."""
        return warmup(progress, self.recipe.warmup)

    def forward(self, networks: Networks, batch: Batch) -> Outputs:
        """z = G(x), (N, 3, H, W) in [-1, 1]."""
        return (networks["G"](batch[0]),)

    def losses(self, networks: Networks, batch: Batch, outputs: Outputs) -> Losses:
        """The structure term and LPIPS(y, z)."""
        (x, y), (z,) = batch, outputs
        match self.recipe.structure:
            case "gradient":
                structure = gradient(x, z)
            case "l1":
                structure = l1(x, z)
            case "none":
                structure = torch.zeros((), device=z.device)
        with self.fabric.autocast():
            return {"loss_structure": structure, "loss_lpips": self.lpips(y, z)}

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: student, enhanced, teacher."""
        x, y = batch
        with self.fabric.autocast():
            return [x, self.averaged["G"](x), y]
