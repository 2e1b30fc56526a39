"""Run a head on images in memory: any size, any of the usual kinds."""

from collections.abc import Callable
from itertools import product, starmap
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from undistill.base.device import pick_device
from undistill.base.progress import show_words
from undistill.enhance.backends import BackendName, load_backend
from undistill.enhance.faces import FEATHER, NoFace, Where, blended, given_masks, masks_of
from undistill.enhance.tiles import Span, mirrored, spans, weights
from undistill.heads import Head
from undistill.heads.pooling import Region, Tile
from undistill.heads.resampling import enlarged, fitted_size, resampled_part, resized
from undistill.images import to_image, to_picture, upright

Scale = Literal["trained", "native"]
Images = TypeVar("Images", Image.Image, "np.ndarray[Any, Any]", Tensor)

# Larger images are cut into tiles, px. The published generator needs some 4 GB at this size in float32, a lite head 1.
WHOLE = 1536 * 1536
CORE = 1024
HALO = 192


class Enhancer:
    """Enhances images with a head. Several threads may call it at once.

    Args:
        head: a `Head`, which is moved to the device and set to evaluate; or what `Head.from_pretrained` takes.
        device: where to run; None: a GPU if there is one, else the CPU.
        dtype: torch.float32 or torch.bfloat16; None: bfloat16 on a GPU if it is safe for the head, else float32.
        scale: "trained": a residual head that knows the size of the images that it was trained on (`trained_at` in its
            descriptor) runs on the image brought to that size, and its change, enlarged, is added to the original: no
            detail is lost, and none is changed that is finer. "native": it runs on the image as it is. Other heads run
            so in any case, and `GridHead` minds its scale by itself.
        backend: what runs the head's network, see `undistill.enhance.backends`. "torch" gives the same bytes wherever
            torch does; "auto" the fastest that is installed, by a table that is measured once (seconds) and kept.

    Example:
        enhancer = Enhancer("flux1")
        enhancer(Image.open("portrait.png")).save("enhanced.png")
    """

    def __init__(
        self,
        head: Head | str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        scale: Scale = "trained",
        backend: BackendName | Literal["auto"] = "torch",
    ) -> None:
        self.head = (head if isinstance(head, Head) else Head.from_pretrained(head)).eval()
        self.device = pick_device(device)
        self.head.to(self.device)
        if dtype not in (None, torch.float32, torch.bfloat16):
            raise ValueError(f"dtype {dtype}: take torch.float32 or torch.bfloat16")
        if scale not in get_args(Scale):
            raise ValueError(f"scale {scale!r}: take one of {', '.join(get_args(Scale))}")
        self.scale = scale
        if backend == "auto":
            from undistill.enhance.backends.table import fastest

            backend = fastest(self.head, self.device, dtype=dtype)
        self.backend: BackendName = backend
        self._backend = load_backend(backend, self.head, self.device, dtype)

    def __call__(
        self,
        images: Images,
        strength: float = 1.0,
        where: Where = "all",
        feather: float = FEATHER,
        no_face: NoFace = "whole",
        mask: "NDArray[Any] | Tensor | None" = None,
        channels_last: bool = False,
    ) -> Images:
        """Enhanced images of the same type, shape, dtype and range.

        Args:
            images: a PIL image; or a numpy array (H, W, 3) or (N, H, W, 3); or a torch tensor (3, H, W) or
                (N, 3, H, W): uint8, or float in [0, 1]. Any height and width from 1 up. A PIL image comes back as
                RGB in sRGB, or RGBA with its alpha untouched, and upright; its `info` has the EXIF, PNG text and so on
                of the image given (Pillow's `save` writes of these what it is told to; `undistill.images.encode`
                writes a file like the one that `decode` has read).
            strength: 0 (the image as it is, but upright) to 1 (the head's image); between them they are mixed.
            where: "face": the faces alone, with hair line, ears and some neck; all other pixels stay as they are. It
                needs the extra `faces`.
            feather: how far beyond a face its mask may end, in heights of the face, 0 to 1. It ends where the image has
                an edge, or evenly where it has none.
            no_face: what becomes of an image without a face: "whole": all of it is enhanced; "keep": none; "fail".
            mask: a mask of one's own instead, (H, W), or (N, H, W) for a batch: bool, uint8, or float in [0, 1]; of a
                PIL image, upright. What is 0 stays as it is.
            channels_last: tensors are (H, W, 3) or (N, H, W, 3), as ComfyUI has them.

        Raises:
            ValueError: shape, dtype, range, strength, where, feather, no_face or mask is none of these.
            ImageError: a PIL image with 32 bits a pixel; or one without a face, and that was to fail.
            Failure: dlib, which finds faces, is not installed.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength {strength} is not between 0 and 1")
        find = _area(where, feather, no_face, mask)
        if isinstance(images, Image.Image):
            if strength == 0:
                return upright(images, notes=[])[0]
            picture = to_picture(images)
            return to_image(picture, self(picture.pixels, strength, where, feather, no_face, mask))
        if isinstance(images, np.ndarray):
            tensor = torch.from_numpy(np.require(images, requirements=["C", "W"]))
            if tensor.ndim not in (3, 4) or tensor.shape[-1] != 3:
                raise ValueError(f"an array of shape {images.shape}: take (H, W, 3) or (N, H, W, 3)")
            return self._part(tensor.movedim(-1, -3), strength, find).movedim(-3, -1).numpy()
        if channels_last:
            if images.ndim not in (3, 4) or images.shape[-1] != 3:
                raise ValueError(f"a tensor of shape {tuple(images.shape)}: take (H, W, 3) or (N, H, W, 3)")
            return self._part(images.movedim(-1, -3), strength, find).movedim(-3, -1)
        if images.ndim not in (3, 4) or images.shape[-3] != 3:
            raise ValueError(f"a tensor of shape {tuple(images.shape)}: take (3, H, W) or (N, 3, H, W)")
        return self._part(images, strength, find)

    @torch.no_grad()
    def _part(self, images: Tensor, strength: float, find: Callable[[Tensor], Tensor] | None) -> Tensor:
        """Images (..., 3, H, W), enhanced where their masks, (N, 1, H, W), are; without them everywhere."""
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"images of {images.dtype}: take uint8, or float in [0, 1]")
        if not images.numel():
            raise ValueError(f"images of shape {tuple(images.shape)} hold no pixel")
        if images.dtype != torch.uint8:
            _refuse_out_of_range(images)
        if strength == 0:
            return images.clone()
        if find is None:
            return self._batch(images, strength)
        batch = images if images.ndim == 4 else images[None]
        masks = find(batch)
        if not masks.any():
            return images.clone()
        result = blended(batch, self._batch(batch, strength), masks)
        return result if images.ndim == 4 else result[0]

    def _batch(self, images: Tensor, strength: float) -> Tensor:
        height, width = images.shape[-2:]
        batch = images if images.ndim == 4 else images[None]
        small = self._trained_size(height, width)
        if small is not None:
            some = max(1, WHOLE // max(height * width, small[0] * small[1]))
            parts = [batch[first : first + some] for first in range(0, len(batch), some)]
            enhanced = torch.cat([self._scaled(part, small, strength) for part in parts])
        elif self._padded(height) * self._padded(width) <= WHOLE:
            enhanced = self._whole(batch, strength)
        else:
            enhanced = torch.stack([self._tiled(image, strength) for image in batch])
        return enhanced if images.ndim == 4 else enhanced[0]

    def _whole(self, batch: Tensor, strength: float) -> Tensor:
        height, width = batch.shape[-2:]
        x = self._take(batch, 0, self._padded(height), 0, self._padded(width))
        z = self._backend(x)
        return _mix(batch, x[..., :height, :width], z[..., :height, :width], strength)

    def _trained_size(self, height: int, width: int) -> tuple[int, int] | None:
        """The size, in one piece, that a head wants to see instead of this one; None: this one."""
        head = self.head
        if self.scale == "native" or head.trained_at is None or head.rescales or not head.residual:
            return None
        small = fitted_size(height, width, head.trained_at, WHOLE)
        return None if small == (height, width) else small

    def _scaled(self, batch: Tensor, small: tuple[int, int], strength: float) -> Tensor:
        """The head's change at the size of its training, added at full size; some rows at a time, as in `_tiled`."""
        height, width = batch.shape[-2:]
        rows = max(1, CORE**2 // width)
        bands = [(top, min(top + rows, height)) for top in range(0, height, rows)]
        x = torch.zeros(len(batch), 3, *small, device=self.device)
        for top, bottom in bands:
            x += resampled_part(self._take(batch, top, bottom, 0, width), top, 0, (height, width), small)
        padded = self._take((x + 1) / 2, 0, self._padded(small[0]), 0, self._padded(small[1]))
        change = self._backend(padded)[..., : small[0], : small[1]] - x
        if small[0] > height:
            change = resized(change, (height, width))
        result = torch.empty_like(batch)
        for top, bottom in bands:
            x = self._take(batch, top, bottom, 0, width)
            z = x + enlarged(change, (height, width), top, 0, bottom - top, width)
            result[..., top:bottom, :] = _mix(batch[..., top:bottom, :], x, z, strength)
        return result

    def _tiled(self, image: Tensor, strength: float) -> Tensor:
        """One image (3, H, W), a row of tiles at a time, so that the whole is never in memory as floats."""
        height, width = image.shape[-2:]
        high, wide = self._padded(height), self._padded(width)
        grid = self.head.grid
        halo = -(-min(HALO, self.head.reach()) // grid) * grid
        ramp = halo // 2
        rows, columns = (spans(length, CORE, halo, ramp, grid) for length in (high, wide))

        def tile(row: Span, column: Span) -> Tile:
            x = self._take(image[None], row.start, row.stop, column.start, column.stop)
            return Tile(
                x,
                top=row.begin - row.start,
                bottom=row.end - row.start,
                left=column.begin - column.start,
                right=column.end - column.start,
                place=Region(row.start, column.start, high, wide),
            )

        result = torch.empty_like(image)
        with self._backend.tiles(lambda: starmap(tile, product(rows, columns))) as run:
            unfinished, done = torch.zeros(3, 0, wide, device=self.device), 0
            for row in rows:
                # The row above left its last pixels unfinished: this one adds its share to them.
                new = row.last - row.first - unfinished.shape[1]
                band = torch.cat([unfinished, torch.zeros(3, new, wide, device=self.device)], dim=1)
                for column in columns:
                    done += 1
                    show_words(f"tile {done} of {len(rows) * len(columns)}")
                    z = run(tile(row, column))[0]
                    used = z[:, row.first - row.start :, column.first - column.start :]
                    used = used[:, : row.last - row.first, : column.last - column.first]
                    weight = weights(row, high, ramp)[:, None] * weights(column, wide, ramp)
                    band[:, :, column.first : column.last] += used * weight.to(self.device)
                finished = row.last if row.last == high else row.last - 2 * ramp
                bottom = min(finished, height)
                x = self._take(image[None], row.first, bottom, 0, width)
                z = band[None, :, : bottom - row.first, :width]
                result[:, row.first : bottom] = _mix(image[:, row.first : bottom], x, z, strength)[0]
                unfinished = band[:, finished - row.first :].clone()
        return result

    def _take(self, batch: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Pixels of (N, 3, H, W), mirrored beyond the border, as float32 in [-1, 1] on the device."""
        height, width = batch.shape[-2:]
        part = batch[..., top:bottom, left:right]
        if bottom > height or right > width:
            part = batch.index_select(-2, mirrored(top, bottom, height).to(batch.device))
            part = part.index_select(-1, mirrored(left, right, width).to(batch.device))
        part = part.to(self.device).float()
        x = part / 127.5 - 1 if batch.dtype == torch.uint8 else part * 2 - 1
        return x.contiguous(memory_format=self._backend.order)

    def _padded(self, length: int) -> int:
        return self.head.round_up(max(length, self.head.smallest))


def _area(
    where: Where, feather: float, no_face: NoFace, mask: "NDArray[Any] | Tensor | None"
) -> Callable[[Tensor], Tensor] | None:
    """What gives the masks of a batch; None: all of it."""
    if where not in get_args(Where):
        raise ValueError(f"where {where!r}: take one of {', '.join(get_args(Where))}")
    if no_face not in get_args(NoFace):
        raise ValueError(f"no_face {no_face!r}: take one of {', '.join(get_args(NoFace))}")
    if not 0 <= feather <= 1:
        raise ValueError(f"feather {feather} is not between 0 and 1")
    if mask is not None:
        if where == "face":
            raise ValueError("give either where='face' or a mask")
        return lambda images: given_masks(mask, tuple(images.shape))
    return None if where == "all" else lambda images: masks_of(images, feather, no_face)


def _refuse_out_of_range(images: Tensor) -> None:
    """Floats are in [0, 1], or what comes out is no picture, and looks like the head's fault."""
    low, high = (float(value) for value in torch.aminmax(images))  # NaN if there is one
    if low >= 0 and high <= 1:
        return
    if not (isfinite(low) and isfinite(high)):
        raise ValueError(f"images of {images.dtype} hold values that are NaN or infinite: take finite ones in [0, 1]")
    advice = "divide by 255, or take uint8" if low >= 0 and high > 2 else "clamp them, or move them there from [-1, 1]"
    raise ValueError(f"images of {images.dtype} go from {low:.4g} to {high:.4g}, not in [0, 1]: {advice}")


def _mix(original: Tensor, x: Tensor, z: Tensor, strength: float) -> Tensor:
    """x + strength (z - x), from [-1, 1] back to the original's dtype and device."""
    mixed = ((torch.lerp(x, z, strength) + 1) / 2).clamp(0, 1)
    if original.dtype == torch.uint8:
        mixed = (mixed * 255).round()
    return mixed.to(original.device, original.dtype)
