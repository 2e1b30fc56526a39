"""How far an image is from its own student image: SSIM, PSNR, LPIPS.

SSIM and PSNR can't tell sharp from blurred, as the paper remarks; they are here because people ask for them.
"""

from dataclasses import dataclass

import torch
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


class Comparison:
    """Compares images with their student images, (H, W, 3) uint8 each."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.lpips = LPIPS().to(device)

    @torch.inference_mode()
    def __call__(self, student: Pixels, image: Pixels) -> Similarity:
        """Raises:
        Failure: the sizes differ.
        """
        if student.shape != image.shape:
            raise Failure(
                f"is {image.shape[1]} x {image.shape[0]} px, its student image {student.shape[1]} x {student.shape[0]}"
            )
        x, z = (to_tensor(pixels)[None].to(self.device) for pixels in (student, image))
        ssim = structural_similarity_index_measure(z, x, data_range=2.0)
        # Equal images have no finite PSNR: half of the last bit of 8 stands for them.
        noise = torch.maximum((x - z).square().mean(), torch.tensor((1 / 255) ** 2 / 4, device=self.device))
        return Similarity(
            ssim_student=float(ssim),  # type: ignore[arg-type]  # a tuple only if asked for more
            psnr_student=float(10 * torch.log10(4 / noise)),
            lpips_student=float(self.lpips(x, z)),
        )
