from math import floor
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import psnr
from undistill.heads import GridHead, Head


def painted(head: GridHead, seed: int = 0, trained_at: int | None = None) -> GridHead:
    """A head that changes colours by some tenths, otherwise in each cell and bin, and detail by as much as there is."""
    random = torch.Generator().manual_seed(seed)
    for parameter, spread in zip(head.last.parameters(), (0.05, 0.1), strict=True):
        parameter.data.normal_(0, spread, generator=random)
    head.trained_at = trained_at
    return head.eval()


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(-1, 1)


def test_is_small_and_begins_as_identity() -> None:
    head = GridHead()
    assert sum(parameter.numel() for parameter in head.parameters()) < 150_000
    for size in ((1, 1), (3, 200), (96, 96), (131, 77)):
        x = torch.rand(2, 3, *size) * 2 - 1
        assert torch.equal(head(x), x)
    descriptor = head.eval().descriptor
    assert (descriptor.smallest, descriptor.multiple, descriptor.whole_image, descriptor.trained_at) == (
        1,
        1,
        True,
        None,
    )


def test_every_pixel_reads_its_colour_off_the_grid() -> None:
    """Trilinear interpolation, written out."""
    x = smooth(50, 70)
    head = painted(GridHead(16))
    for parameter in head.last.parameters():
        parameter.data[12 * head.bins :] = 0  # no gains
    with torch.no_grad():
        grid, _ = head.look(x)
        y = head(x)[0]
    high, wide = grid.shape[-2:]
    assert (high, wide) == (12, 17)

    def between(place: float, count: int) -> list[tuple[int, float]]:
        place = min(max(place, 0.0), count - 1.0)
        before = floor(place)
        return [(before, 1 - place + before), (min(before + 1, count - 1), place - before)]

    for row, column in ((0, 0), (49, 69), (25, 33), (7, 60)):
        pixel = x[0, :, row, column]
        luminance = float(pixel @ torch.tensor([0.2126, 0.7152, 0.0722]))
        affine = torch.zeros(3, 4)
        for b, p in between((luminance + 1) / 2 * (head.bins - 1), head.bins):
            for i, q in between((row + 0.5) * high / 50 - 0.5, high):
                for j, r in between((column + 0.5) * wide / 70 - 0.5, wide):
                    affine += p * q * r * grid[0, :, :, b, i, j]
        assert torch.allclose(y[:, row, column], pixel + affine @ torch.cat([pixel, torch.ones(1)]), atol=1e-4)


def test_bands_are_octaves_of_luminance() -> None:
    head = GridHead(16).eval()
    _, bias = head.last.parameters()

    def change(gains: list[float], x: Tensor) -> Tensor:
        bias.data[12 * head.bins :] = torch.tensor(gains)
        with torch.no_grad():
            y: Tensor = head(x) - x
        assert torch.allclose(y[:, :1], y[:, 1:2], atol=1e-6)  # all channels alike
        return y[:, :1]

    for band in range(4):
        # Waves of 4 * 2^band px: most of them is in this octave.
        wave = 0.5 * torch.sin(torch.arange(192.0) * 2 * torch.pi / (4 * 2**band))
        x = wave.expand(1, 3, 192, 192)
        strengths = [float(change([float(k == other) for k in range(4)], x).std() / wave.std()) for other in range(4)]
        assert max(range(4), key=strengths.__getitem__) == band, strengths
        assert strengths[band] > 0.35
    flat = torch.full((1, 3, 64, 64), 0.3)
    assert change([1.0, 1.0, 1.0, 1.0], flat).abs().max() < 1e-6


def test_the_same_face_is_changed_alike_at_every_size() -> None:
    small = smooth(120, 96) + 0.1 * torch.randn(1, 3, 120, 96, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    large = F.interpolate(small, (360, 288), mode="bilinear")
    alike, other = painted(GridHead(16), trained_at=96), painted(GridHead(16))
    for head in (alike, other):
        *_, bias = head.last.parameters()
        bias.data[12 * head.bins :] += 1.0
    with torch.no_grad():
        back = [F.interpolate(head(large), (120, 96), mode="bilinear", antialias=True) for head in (alike, other)]
        seen = F.interpolate(large, (120, 96), mode="bilinear", antialias=True)  # a little softer than `small`
        assert psnr(back[0], alike(seen), 2.0) > 38
        assert psnr(back[0], alike(seen), 2.0) > psnr(back[1], other(seen), 2.0) + 6


def test_images_of_a_batch_know_nothing_of_each_other() -> None:
    head = painted(GridHead(16), trained_at=60)
    x = torch.cat([smooth(72, 90), smooth(72, 90, seed=1)])
    with torch.no_grad():
        assert torch.allclose(head(x), torch.cat([head(x[:1]), head(x[1:])]), atol=1e-5)
        assert torch.allclose(head(x.to(memory_format=torch.channels_last)), head(x), atol=1e-5)


def test_autocast_leaves_pixels_their_precision() -> None:
    head, x = painted(GridHead(16)), smooth(80, 80)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y = head(x)
    assert y.dtype == torch.float32
    with torch.no_grad():
        assert psnr(y, head(x), 2.0) > 45


def test_learns_on_crops() -> None:
    torch.manual_seed(0)
    head = GridHead(16)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    x = torch.cat([smooth(48, 48, seed) for seed in range(4)])
    wanted = (x * torch.tensor([1.0, 0.9, 0.8]).view(3, 1, 1) - 0.1).clamp(-1, 1)
    losses = []
    for _ in range(25):
        loss = F.mse_loss(head(x), wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
    assert losses[-1] < losses[0] / 10


def test_comes_back_with_its_scale(tmp_path: Path) -> None:
    head = painted(GridHead(16, bins=4, bands=3), trained_at=475)
    head.save_pretrained(tmp_path)
    twin = Head.from_pretrained(tmp_path)
    assert isinstance(twin, GridHead)
    assert (twin.bins, twin.bands, twin.descriptor.trained_at) == (4, 3, 475)
    with torch.no_grad():
        assert psnr(twin(smooth(64, 64)), head(smooth(64, 64)), 2.0) > 50


@pytest.mark.parametrize("size", [(300, 200), (130, 400)])
def test_features_come_from_fine_to_coarse(size: tuple[int, int]) -> None:
    maps = GridHead(16).encode(torch.rand(1, 3, *size))
    sides = [min(x.shape[-2:]) for x in maps]
    assert sides == [48, 24, 12]


@pytest.mark.parametrize("width", [2, 6])
def test_refuses_a_width_that_cannot_be_halved_twice(width: int) -> None:
    with pytest.raises(ValueError, match=f"width {width} is no multiple of 4"):
        GridHead(width)
    GridHead(4)(torch.rand(1, 3, 32, 32))
