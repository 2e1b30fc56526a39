"""A realism LoRA: a small addition to the student's transformer that moves its images towards real faces."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxPipeline
from lightning_fabric import Fabric
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from research.tiny.courses import noise_of
from research.tiny.model import Velocity
from research.tiny.prompts import Tokens
from research.tiny.recipe import RealismRecipe
from undistill.base.progress import progressed
from undistill.dataset.read import shuffled
from undistill.losses import LPIPS
from undistill.training.embedding import Embedding, RunningMMD, fit_embeddings
from undistill.training.method import Batch, Losses, Method, Networks, Outputs, Phase
from undistill.training.mmd import WARM_UP
from undistill.training.schedule import linear_decay, warmup

LAYERS = r".*_blocks\..*\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out|proj_mlp|proj_out|net\.0\.proj|net\.2)"
"""The transformer's products with a LoRA: those of attention and of the feed-forward layers."""


class Questions(Dataset[Batch]):
    """The k-th question of a run: T5's and CLIP's ids of a caption, and noise.

    Args:
        ids: T5's and CLIP's of the captions, (captions, LENGTH) each.
        channels, side: of the noise.
        endless: each epoch in a new order, with new noise; else once, as they are.
    """

    def __init__(self, ids: Sequence[Tokens], channels: int, side: int, seed: int, *, endless: bool) -> None:
        self.ids = ids
        self.channels = channels
        self.side = side
        self.seed = seed
        self.endless = endless

    def __len__(self) -> int:
        return len(self.ids[0])

    def __getitem__(self, k: int) -> Batch:
        epoch, place = divmod(k, len(self))
        if self.endless:
            place = int(shuffled(len(self), self.seed, epoch)[place])
        t5, clip = (torch.from_numpy(each[place].astype(np.int64)) for each in self.ids)
        return t5, clip, noise_of(k, self.channels, self.side, self.seed)


class Realism(Method):
    """L = mmd x MMD^2(z, y) + lpips x LPIPS(x, z).

    z is what the student draws with the LoRA, in one step from noise, x what it draws without, y real faces as the
    autoencoder gives them back: what the transformer could draw at best. MMD^2 (training/embedding.py, with x as
    control variate) moves all images towards all faces, without telling which is to become which; LPIPS holds the
    person.

    Args:
        faces: (N, 3, SIDE, SIDE) uint8.
        training: the first N of its questions are embedded for the faces to be compared with.
    """

    columns = ("loss_mmd", "loss_lpips")
    validation_columns = ("val_loss", "val_mmd", "val_lpips")

    def __init__(
        self,
        fabric: Fabric,
        recipe: RealismRecipe,
        student: Velocity,
        vae: AutoencoderKL,
        faces: Tensor,
        training: Dataset[Batch],
    ) -> None:
        self.faces = faces
        self.training = training
        self.student = student.to(fabric.device).eval().requires_grad_(False)
        self.vae = vae.to(fabric.device)
        network = deepcopy(self.student)
        network.transformer.add_adapter(LoraConfig(r=recipe.rank, lora_alpha=recipe.rank, target_modules=LAYERS))
        super().__init__(fabric, recipe, {"lora": network}, averaged=("lora",))
        self.wrapped["lora"].mark_forward_method("encode")
        self.weights = {"loss_mmd": recipe.mmd, "loss_lpips": recipe.lpips}
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizers = {"lora": torch.optim.AdamW(learned, lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.0)}
        self.phases = (Phase("lora", ("lora",), self.losses, max_norm=1.0),)
        self.lpips = LPIPS().to(fabric.device)
        self.mmd = RunningMMD(fabric, Embedding(self.lpips, recipe.enlarged, recipe.seed), recipe.memory)

    def prepare(self) -> None:
        if not self.mmd.fitted:
            fit_embeddings(self.fabric, [self.mmd], self._images())

    def _images(self) -> Iterator[tuple[Tensor, Tensor]]:
        device, many = self.fabric.device, 64
        questions = DataLoader(Subset(self.training, range(len(self.faces))), many)
        both = zip(questions, torch.split(self.faces, many), strict=True)
        for batch, real in progressed("embedding", both, -(-len(self.faces) // many)):
            with self.fabric.autocast():
                latents = self.vae.encode(real.to(device).float() / 127.5 - 1).latent_dist.mode()
                drawn = self.draw(self.student, [each.to(device) for each in batch])
                yield drawn, self.vae.decode(latents).sample.float()

    def draw(self, network: Any, batch: Sequence[Tensor]) -> Tensor:
        """(N, 3, SIDE, SIDE) in [-1, 1], in one step: x = e - v(e, 1)."""
        t5, clip, noise = batch
        latents = noise - network(noise, torch.ones(len(noise), device=noise.device), network.encode(t5, clip), None)
        images: Tensor = self.vae.decode(latents / self.vae.config.scaling_factor + self.vae.config.shift_factor).sample
        return images.float()

    def schedule(self, progress: float) -> float:
        """Rises, is constant, and falls linearly to 0 in the second half."""
        return linear_decay(progress) * warmup(progress, WARM_UP)

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        changes = (self._compare(self.forward(self.wrapped, batch))[0] for batch in batches)
        self.mmd.begin(len(batches), changes)

    def forward(self, networks: Networks, batch: Batch) -> Outputs:
        """AlexNet's maps of what the student draws without the LoRA, then of what it draws with it."""
        embedding = self.mmd.embedding
        with self.fabric.autocast():
            with torch.no_grad():
                before = embedding.maps(embedding.seen(self.draw(self.student, batch)))
            after = embedding.maps(embedding.seen(self.draw(networks["lora"], batch)))
        return (*before, *after)

    def losses(self, networks: Networks, batch: Batch, outputs: Outputs) -> Losses:
        """MMD^2(z, y) and LPIPS(x, z)."""
        change, lpips = self._compare(outputs)
        return {"loss_mmd": self.mmd.loss(change), "loss_lpips": lpips}

    def _compare(self, maps: Outputs) -> tuple[Tensor, Tensor]:
        """The mean of phi(z) - phi(x), and LPIPS(x, z)."""
        before, after = maps[: len(maps) // 2], maps[len(maps) // 2 :]
        lpips = self.lpips.distance(self.lpips.normalised(before), self.lpips.normalised(after))
        return self.mmd.change(before, after), lpips

    def validation(self, batch: Batch) -> dict[str, Tensor]:
        change, lpips = self._compare(self.forward(self.averaged, batch))
        return {"change": change, "lpips": lpips}

    def figures(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """The training losses of the average, over all held-out captions; `val_loss`: as they are weighted."""
        mmd, lpips = (self.mmd.gap + means["change"]).square().sum(), means["lpips"]
        return {
            "val_loss": self.total({"loss_mmd": mmd, "loss_lpips": lpips}),
            "val_mmd": mmd,
            "val_lpips": lpips,
        }

    @torch.no_grad()
    def sample(self, batch: Batch) -> list[Tensor]:
        """Rows of a sample grid: the student without the LoRA, and with its average."""
        with self.fabric.autocast():
            return [self.draw(network, batch) for network in (self.student, self.averages["lora"].module)]

    def save(self, folder: Path) -> None:
        """The average as diffusers' LoRA, in float16."""
        network = self.averages["lora"].module
        assert isinstance(network, Velocity)
        weights = get_peft_model_state_dict(network.transformer)
        small = {name: weight.half().cpu() for name, weight in weights.items()}
        FluxPipeline.save_lora_weights(folder, transformer_lora_layers=small)

    def extra_state(self) -> dict[str, Any]:
        return {"mmd": self.mmd.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """An older state has no embedding, only what was seen by it: `prepare` fits a new one, and forgets it."""
        if "mmd" in state:
            self.mmd.load_state(state["mmd"])
