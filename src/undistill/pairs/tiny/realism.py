"""A realism LoRA: a small addition to the student's transformer that moves its images towards real faces."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxPipeline
from lightning_fabric import Fabric
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from undistill.dataset.read import shuffled
from undistill.losses import LPIPS
from undistill.pairs.tiny.courses import noise_of
from undistill.pairs.tiny.model import Velocity
from undistill.pairs.tiny.prompts import Tokens
from undistill.pairs.tiny.recipe import RealismRecipe
from undistill.progress import progressed
from undistill.training.adversarial import decayed, risen
from undistill.training.average import Average
from undistill.training.matched import Embedding

Batch = tuple[Tensor, ...]
LAYERS = r".*_blocks\..*\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out|proj_mlp|proj_out|net\.0\.proj|net\.2)"
"""The transformer's products with a LoRA: those of attention and of the feed-forward layers."""
_WARM_UP = 0.05
"""Share of the run in which the learning rate rises."""


class Questions(Dataset[Batch]):
    """The k-th question of a run: T5's and CLIP's ids of a caption, and noise.

    Args:
        ids: T5's and CLIP's of the captions, (captions, LENGTH) each.
        channels: of the noise.
        endless: each epoch in a new order, with new noise; else once, as they are.
    """

    def __init__(self, ids: Sequence[Tokens], channels: int, seed: int, *, endless: bool) -> None:
        self.ids = ids
        self.channels = channels
        self.seed = seed
        self.endless = endless

    def __len__(self) -> int:
        return len(self.ids[0])

    def __getitem__(self, k: int) -> Batch:
        epoch, place = divmod(k, len(self))
        if self.endless:
            place = int(shuffled(len(self), self.seed, epoch)[place])
        t5, clip = (torch.from_numpy(each[place].astype(np.int64)) for each in self.ids)
        return t5, clip, noise_of(k, self.channels, 8, self.seed)


class Realism:
    """L = mmd x MMD^2(z, y) + lpips x LPIPS(x, z).

    z is what the student draws with the LoRA, in one step from noise, x what it draws without, y real faces as the
    autoencoder gives them back: what the transformer could draw at best. MMD^2 (training/matched.py, with x as control
    variate) moves all images towards all faces, without telling which is to become which; LPIPS holds the person.

    Args:
        faces: (N, 3, SIDE, SIDE) uint8.
        training: the first N of its questions are embedded for the faces to be compared with.
    """

    columns: tuple[str, ...] = ("lr", "loss_mmd", "loss_lpips")
    validation_columns: tuple[str, ...] = ("val_loss", "val_mmd", "val_lpips")

    def __init__(
        self,
        fabric: Fabric,
        recipe: RealismRecipe,
        student: Velocity,
        vae: AutoencoderKL,
        faces: Tensor,
        training: Dataset[Batch],
    ) -> None:
        self.fabric = fabric
        self.recipe = recipe
        self.student = student.to(fabric.device).eval().requires_grad_(False)
        self.vae = vae.to(fabric.device)
        network = deepcopy(self.student)
        network.transformer.add_adapter(LoraConfig(r=recipe.rank, lora_alpha=recipe.rank, target_modules=LAYERS))
        self.networks: dict[str, nn.Module] = {"lora": network}
        self.averages = {"lora": Average(network, recipe.ema)}
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "lora": torch.optim.AdamW(learned, lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.0)
        }
        self.lora = fabric.setup_module(network)
        self.lora.mark_forward_method("encode")
        self.lpips = LPIPS().to(fabric.device)
        self.embedding = Embedding(self.lpips, recipe.enlarged, recipe.seed)
        self.gap = self._fit(faces, training)
        self.moved = torch.zeros_like(self.gap)

    @torch.no_grad()
    def _fit(self, faces: Tensor, training: Dataset[Batch]) -> Tensor:
        """Mean phi(x) - mean phi(y)."""
        device, many = self.fabric.device, 64
        questions = DataLoader(Subset(training, range(len(faces))), many)
        x: list[list[Tensor]] = []
        y: list[list[Tensor]] = []
        with self.fabric.autocast():
            for batch, real in progressed(
                "embedding", zip(questions, torch.split(faces, many), strict=True), -(-len(faces) // many)
            ):
                latents = self.vae.encode(real.to(device).float() / 127.5 - 1).latent_dist.mode()
                drawn = self.draw(self.student, [each.to(device) for each in batch])
                for kept, images in ((x, drawn), (y, self.vae.decode(latents).sample.float())):
                    kept.append(self.embedding.pooled(self.embedding.maps(images)))
        one, other = ([torch.cat(maps) for maps in zip(*side, strict=True)] for side in (x, y))
        self.embedding.fit(one, other)
        return self.embedding(one).mean(0) - self.embedding(other).mean(0)

    def draw(self, network: Any, batch: Sequence[Tensor]) -> Tensor:
        """(N, 3, SIDE, SIDE) in [-1, 1], in one step: x = e - v(e, 1)."""
        t5, clip, noise = batch
        latents = noise - network(noise, torch.ones(len(noise), device=noise.device), network.encode(t5, clip), None)
        images: Tensor = self.vae.decode(latents / self.vae.config.scaling_factor + self.vae.config.shift_factor).sample
        return images.float()

    def learning_rate(self, progress: float) -> float:
        """Rises, is constant, and falls linearly to 0 in the second half. `progress` in [0, 1)."""
        return decayed(self.recipe.lr, progress) * risen(progress, _WARM_UP)

    def step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        totals = dict.fromkeys(self.columns[1:], torch.zeros((), device=self.fabric.device))
        self.optimizers["lora"].zero_grad()
        for batch in batches:
            moved, lpips = self._compare(self.lora, batch)
            with torch.no_grad():
                self.moved.lerp_(moved, 1 - self.recipe.memory)
                left = self.gap + self.moved
            # The gradient of |left|^2 through this batch alone, at the length of a whole one.
            mmd = left.square().sum() + 2 * (left * (moved - moved.detach())).sum()
            self.fabric.backward((self.recipe.mmd * mmd + self.recipe.lpips * lpips) / len(batches))
            for name, loss in (("loss_mmd", mmd), ("loss_lpips", lpips)):
                totals[name] = totals[name] + loss.detach() / len(batches)
        self.fabric.clip_gradients(self.lora, self.optimizers["lora"], max_norm=1.0)
        self.optimizers["lora"].step()
        self.averages["lora"].update(self.networks["lora"], step)
        return totals

    def _compare(self, network: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean of phi(z) - phi(x), and LPIPS(x, z)."""
        with self.fabric.autocast():
            with torch.no_grad():
                before = self.embedding.maps(self.draw(self.student, batch))
            after = self.embedding.maps(self.draw(network, batch))
        pooled = (self.embedding.pooled(maps) for maps in (after, before))
        z, x = (self.embedding(each) for each in pooled)
        return (z - x).mean(0), self.lpips.distance(self.lpips.normalised(before), self.lpips.normalised(after))

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """The training losses of the average, over all held-out captions; `val_loss`: as they are weighted."""
        moved, lpips, count = torch.zeros_like(self.gap), 0.0, 0
        for batch in batches:
            here, distance = self._compare(self.averages["lora"].module, batch)
            moved += here * len(batch[0])
            lpips += float(distance) * len(batch[0])
            count += len(batch[0])
        mmd, lpips = float((self.gap + moved / count).square().sum()), lpips / count
        return {"val_loss": self.recipe.mmd * mmd + self.recipe.lpips * lpips, "val_mmd": mmd, "val_lpips": lpips}

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
        return {"moved": self.moved}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.moved = state["moved"].to(self.fabric.device)
