"""How an image looks by itself, without another to hold it against: CLIP-IQA, and an effect of blur.

Neither knows what a teacher's portrait looks like: they are in the table because the field quotes them.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from PIL import Image
from torch import Tensor, nn

from undistill.base.errors import Failure
from undistill.base.libraries import quiet
from undistill.images import Pixels
from undistill.metrics import CLIP
from undistill.metrics.extraction import Extractor, Features, one_by_one


def load_clip_iqa(device: torch.device) -> Extractor:
    """CLIP-IQA (Wang et al. 2023), 0 to 1: how much nearer an image is to "Good photo." than to "Bad photo."; (1, 1).

    Raises:
        Failure: CLIP's weights are not in the Hugging Face cache.
    """
    missing = f"CLIP's weights are not in the cache: hf download {CLIP}"
    if not Path(CLIP).is_dir() and not isinstance(try_to_load_from_cache(CLIP, "config.json"), str):
        raise Failure(missing)  # before transformers, which takes seconds to import

    with quiet("transformers"):
        from torchmetrics.functional.multimodal import clip_image_quality_assessment
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

        try:
            model = CLIPModel.from_pretrained(CLIP, local_files_only=True).eval().to(device)
            tokenizer = CLIPTokenizer.from_pretrained(CLIP, local_files_only=True)
            processor = CLIPImageProcessor.from_pretrained(CLIP, local_files_only=True)
        except OSError as error:
            raise Failure(missing) from error

    def prepare(text: list[str] | None = None, images: list[Tensor] | None = None, **options: Any) -> Any:
        if text is not None:
            return tokenizer(text, **options)
        # torchmetrics hands over what it got, 0 to 255 here: the processor's own way to an image.
        pictures = [Image.fromarray(image.permute(1, 2, 0).byte().numpy()) for image in images or []]
        return processor(images=pictures, return_tensors="pt")

    parts = _Projections(model), prepare

    @torch.inference_mode()
    def look(pixels: Pixels) -> Features:
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(device)
        # A callable in the place of a name: torchmetrics loads by name what it knows, and from the network.
        score = clip_image_quality_assessment(image, cast(Any, lambda: parts))
        return np.asarray(cast(Tensor, score).float().cpu().numpy()).reshape(1, 1)

    return Extractor(f"clip-iqa-1 {CLIP}".replace("/", "-"), one_by_one(look))


class _Projections(nn.Module):
    """CLIP's two projections as tensors, as torchmetrics expects them; since transformers 5 they come in a record."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def get_text_features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return cast(Tensor, self.model.get_text_features(tokens, mask).pooler_output)

    def get_image_features(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.model.get_image_features(pixels).pooler_output)


def load_blur_effect(device: torch.device) -> Extractor:
    """Blur effect (Crété-Roffet et al. 2007), 0 (sharp) to 1 (blurred), by scikit-image; (1, 1).

    Raises:
        Failure: scikit-image is not installed.
    """
    if find_spec("skimage") is None:
        raise Failure("the effect of blur needs scikit-image: pip install 'undistill[quality]'")
    from skimage.measure import blur_effect

    measure: Callable[..., float] = blur_effect
    look = one_by_one(lambda pixels: np.array([[measure(pixels, channel_axis=2)]], np.float32))
    return Extractor("blur-effect-1", look)


NO_REFERENCE: dict[str, Callable[[torch.device], Extractor]] = {
    "clip_iqa": load_clip_iqa,
    "blur_effect": load_blur_effect,
}
"""By metric."""
