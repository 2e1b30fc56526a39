"""How far an image is from its own student image: SSIM, PSNR, LPIPS.

SSIM and PSNR can't tell sharp from blurred, as the paper remarks; they are here because people ask for them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from undistill.errors import Failure
from undistill.images import Pixels, to_tensor
from undistill.losses import LPIPS


@dataclass(frozen=True)
class Similarity:
    """One image against its student image."""

    ssim_student: float
    psnr_student: float
    lpips_student: float


def ssim(x: Tensor, z: Tensor) -> Tensor:
    """The mean SSIM of images z against x, (N, 3, H, W) in [-1, 1] each; z is clamped to it. 1 for equal images."""
    # In float32: SSIM's variances are small differences of large numbers.
    likeness = structural_similarity_index_measure(z.float().clamp(-1, 1), x, data_range=(-1.0, 1.0))
    assert isinstance(likeness, Tensor)  # a tuple only if asked for more
    return likeness


class Comparison:
    """Compares images with a student image, (H, W, 3) uint8 each."""

    def __init__(self, student: Pixels, lpips: LPIPS, device: torch.device) -> None:
        self.lpips = lpips
        self.device = device
        self.x = to_tensor(student)[None].to(device)
        with torch.inference_mode():
            self.layers = lpips.layers(self.x)

    @torch.inference_mode()
    def __call__(self, image: Pixels) -> Similarity:
        """Raises:
        Failure: the sizes differ.
        """
        z = to_tensor(image)[None].to(self.device)
        if z.shape != self.x.shape:
            raise Failure(f"is {z.shape[3]} x {z.shape[2]} px, its student image {self.x.shape[3]} x {self.x.shape[2]}")
        # Equal images have no finite PSNR: half of the last bit of 8 stands for them.
        noise = torch.maximum((self.x - z).square().mean(), torch.tensor((1 / 255) ** 2 / 4, device=self.device))
        return Similarity(
            ssim_student=float(ssim(self.x, z)),
            psnr_student=float(10 * torch.log10(4 / noise)),
            lpips_student=float(self.lpips.distance(self.layers, self.lpips.layers(z))),
        )
