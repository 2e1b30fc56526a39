"""Latents and tokenised captions, as the transformer's stages see them."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPTokenizer, T5TokenizerFast

from research.tiny.captions import caption
from research.tiny.faces import TrainingFace, all_views
from research.tiny.recipe import FacesRecipe
from research.tiny.tokenizers import LENGTH
from undistill.dataset import position
from undistill.dataset.read import shuffled

Tokens = NDArray[np.int16]
ENCODED = 8
"""Pictures encoded at once: of more, a CPU's caches no longer hold a layer, and each takes twice as long."""


def tokens(tokenizer: CLIPTokenizer | T5TokenizerFast, texts: Sequence[str]) -> Tokens:
    """(texts, LENGTH) ids, as FluxPipeline makes them: padded to the full length, cut at it."""
    ids = tokenizer(list(texts), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="np")
    return np.asarray(ids.input_ids, dtype=np.int16)


def draw_captions(faces: Sequence[TrainingFace], count: int, seed: int) -> list[str]:
    """`count` captions for each face, one face after another; a face's are its own, whatever other faces there are."""
    keys = [int(position(face.path.stem) * 2**53) for face in faces]
    return [
        caption(face, np.random.default_rng([seed, key, k]))
        for face, key in zip(faces, keys, strict=True)
        for k in range(count)
    ]


@torch.no_grad()
def encode_faces(
    vae: AutoencoderKL, faces: Sequence[TrainingFace], shown: FacesRecipe, views: int, seed: int
) -> Tensor:
    """(faces, views, 16, side / 8, side / 8): latents as the transformer sees them: means, less shift, times scale."""
    pictures = all_views(faces, shown, views, seed)
    means = [
        vae.encode(chunk.to(vae.device).float() / 127.5 - 1).latent_dist.mode().cpu()
        for chunk in torch.split(pictures.flatten(0, 1), ENCODED)
    ]
    latents: Tensor = (torch.cat(means) - vae.config.shift_factor) * vae.config.scaling_factor
    return latents.view(*pictures.shape[:2], *latents.shape[1:])


class Captioned(Dataset[tuple[Tensor, ...]]):
    """The k-th latent of a run and the ids of a caption: (16, H, W), T5's (LENGTH,), CLIP's (LENGTH,).

    Each epoch goes through the faces in a new order, with a view and a caption drawn for each. `dropped` of the
    captions are empty. With seed None: each face once, its first view and caption.

    Args:
        latents: (faces, views, 16, H, W).
        ids: T5's and CLIP's, (faces x captions + 1, LENGTH) each; the last row is the empty caption's.
    """

    def __init__(self, latents: Tensor, ids: tuple[Tokens, Tokens], dropped: float, seed: int | None) -> None:
        self.latents = latents
        self.ids = ids
        self.captions = (len(ids[0]) - 1) // len(latents)
        self.dropped = dropped
        self.seed = seed

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, k: int) -> tuple[Tensor, ...]:
        epoch, place = divmod(k, len(self.latents))
        face, view, row = place, 0, place * self.captions
        if self.seed is not None:
            face = int(shuffled(len(self.latents), self.seed, epoch)[place])
            random = np.random.default_rng([self.seed, k, 1])
            view = int(random.integers(self.latents.shape[1]))
            row = face * self.captions + int(random.integers(self.captions))
            if random.random() < self.dropped:
                row = -1
        return self.latents[face, view], *(torch.from_numpy(ids[row].astype(np.int64)) for ids in self.ids)
