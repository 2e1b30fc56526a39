from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from undistill.base.errors import Failure
from undistill.losses import (
    LPIPS,
    ImagePool,
    PatchNCE,
    adversarial,
    chroma,
    even,
    gradient,
    l1,
    lab,
    neutral,
    pool_random,
    tone,
)  # fmt: skip


def noise(seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((1, 3, 64, 64), dtype=np.float32) * 2 - 1)


RAMP = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    return LPIPS()


@pytest.mark.parametrize(
    ("y", "z", "value"),
    [
        (noise(0), noise(1), 0.105298),
        (RAMP, RAMP.flip(-1), 0.409913),
        (RAMP, RAMP.transpose(-1, -2), 0.510937),
    ],
    ids=["noise", "flipped", "transposed"],
)
def test_lpips_known_values(lpips: LPIPS, y: Tensor, z: Tensor, value: float) -> None:
    assert float(lpips(y, z)) == pytest.approx(value, abs=5e-4)


def test_lpips_is_zero_for_equal_images_and_has_a_gradient_everywhere(lpips: LPIPS) -> None:
    x = torch.zeros(1, 3, 64, 64, requires_grad=True)
    assert float(lpips(x, x).detach()) == 0.0
    lpips(x, noise(0)).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert not any(parameter.requires_grad for parameter in lpips.parameters())


def test_gradient_of_a_ramp() -> None:
    flat = torch.zeros(1, 3, 4, 5)
    ramp = torch.arange(5.0).expand(1, 3, 4, 5) * 0.25
    assert float(gradient(flat, ramp)) == pytest.approx(0.25)  # 0.25 along the rows, 0 down the columns
    assert float(gradient(ramp, ramp + 0.5)) == 0.0  # light alone costs nothing
    assert float(gradient(flat, ramp)) == float(gradient(ramp, flat))


def test_l1() -> None:
    assert float(l1(torch.zeros(2, 3), torch.full((2, 3), -0.5))) == 0.5


def test_slack_forgives_small_differences() -> None:
    x = torch.zeros(4)
    assert float(l1(x, torch.full((4,), 0.05), slack=0.1)) == pytest.approx(0.05**2 / 0.2)
    assert float(l1(x, torch.full((4,), 0.5), slack=0.1)) == pytest.approx(0.45)


def test_chroma_sees_coloured_detail_alone() -> None:
    x, detail = noise(0), noise(1)
    assert float(chroma(x, x + detail[:, :1])) == pytest.approx(0, abs=1e-6)
    assert float(chroma(x, x + torch.tensor([0.2, 0.0, -0.1]).view(3, 1, 1))) == pytest.approx(0, abs=1e-6)
    assert float(chroma(x, x + detail)) > 0.1


def test_tone_sees_light_and_not_texture() -> None:
    x = torch.zeros(1, 3, 32, 32)
    texture = torch.ones(32, 32)
    texture[::2] = -1
    assert float(tone(x, x + texture)) == 0.0
    assert float(tone(x, x + 0.25)) == pytest.approx(0.25)


def test_adversarial_is_least_squares() -> None:
    logits = torch.tensor([0.0, 1.0, 3.0])
    assert float(adversarial(logits, real=True)) == pytest.approx((1 + 0 + 4) / 3)
    assert float(adversarial(logits, real=False)) == pytest.approx((0 + 1 + 9) / 3)


def test_pool_fills_then_shows_old_fakes_half_the_time() -> None:
    pool = ImagePool(4)
    first = torch.arange(4.0).view(4, 1)
    assert torch.equal(pool.exchange(first, pool_random(0, 0, 0)), first)
    new = torch.arange(100.0, 300.0).view(200, 1)
    shown = pool.exchange(new, pool_random(0, 1, 0))
    assert len(pool.images) == 4
    assert 0.35 < float((shown != new).float().mean()) < 0.65
    # Nothing is lost: what went in was shown or is in the pool.
    assert sorted([*shown.flatten().tolist(), *(float(image) for image in pool.images)]) == [
        *range(4),
        *range(100, 300),
    ]


def test_pool_of_nothing_shows_the_new() -> None:
    fakes = torch.randn(3, 2)
    assert torch.equal(ImagePool(0).exchange(fakes, pool_random(0, 0, 0)), fakes)


def test_patch_contrast_is_low_for_the_same_and_chance_for_another() -> None:
    torch.manual_seed(0)
    loss = PatchNCE([8, 4], patches=64)
    maps = [torch.randn(2, 8, 16, 16), torch.randn(2, 4, 8, 8)]
    other = [torch.randn_like(part) for part in maps]
    same = float(loss(maps, maps, np.random.default_rng(0)))
    assert same < np.log(64)
    assert float(loss(maps, other, np.random.default_rng(0))) > 2 * np.log(64)  # no better than chance, twice
    moved = [part.roll(1, -1) for part in maps]
    assert float(loss(maps, moved, np.random.default_rng(0))) > 2 * np.log(64)


def test_patch_contrast_teaches_the_output_alone() -> None:
    loss = PatchNCE([3])
    x, z = (torch.randn(1, 3, 12, 12, requires_grad=True) for _ in range(2))
    loss([x], [z], np.random.default_rng(0)).backward()
    assert x.grad is None
    assert z.grad is not None


@pytest.mark.shared
@pytest.mark.usefixtures("vgg")
def test_lpips_on_vgg() -> None:
    vgg = LPIPS("vgg")
    for y, z, value in ((noise(0), noise(1), 0.311821), (RAMP, RAMP.flip(-1), 0.406969)):
        assert float(vgg(y, z)) == pytest.approx(value, abs=1e-5)
    assert [maps.shape[1:] for maps in vgg.maps(RAMP, 2)] == [(64, 64, 64), (128, 32, 32)]


def test_weights_that_are_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDISTILL_WEIGHTS", raising=False)
    with pytest.raises(Failure, match="UNDISTILL_WEIGHTS is not set"):
        LPIPS("vgg")
    monkeypatch.setenv("UNDISTILL_WEIGHTS", str(tmp_path))
    with pytest.raises(Failure, match="has none"):
        LPIPS("vgg")


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.20))],
)
def test_lab_known_values(rgb: tuple[int, ...], expected: tuple[float, ...]) -> None:
    x = torch.tensor(rgb).view(1, 3, 1, 1) / 127.5 - 1
    assert lab(x).flatten().tolist() == pytest.approx(expected, abs=0.02)


def test_skin_of_all_tones_turns_alike() -> None:
    dark, light = (torch.tensor(rgb).view(3, 1, 1).expand(3, 16, 16) for rgb in ([-0.1, -0.4, -0.6], [0.8, 0.5, 0.3]))
    skins = torch.stack([dark, light])
    reddened = skins + torch.tensor([0.0, -0.05, 0.0]).view(3, 1, 1)
    twins, reddened_twins = (side[:1].repeat(2, 1, 1, 1) for side in (skins, reddened))
    assert float(even(skins, skins)) == 0
    assert float(even(twins, reddened_twins)) < 1e-9
    assert float(even(skins, reddened)) > 1e-4  # the same change of red turns dark skin further
    assert float(even(skins, torch.stack([dark, reddened[1]]))) > 1e-4  # one of two
    assert float(even(skins[:1], reddened[:1])) == 0  # nobody to be unlike


def test_where_there_is_no_skin_nothing_turns() -> None:
    grey = torch.zeros(2, 3, 16, 16)
    z = (grey + 0.1).requires_grad_()
    loss = even(grey, z)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss) == 0
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_greys_are_held_and_skin_is_free() -> None:
    tint = torch.tensor([0.02, 0.0, -0.02]).view(1, 3, 1, 1)
    grey, skin = torch.zeros(1, 3, 8, 8), torch.tensor([0.7, 0.2, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert float(neutral(grey, grey + 0.1)) == pytest.approx(0, abs=1e-6)  # lighter, and as grey
    assert float(neutral(grey, grey + tint)) > 50 * float(neutral(skin, skin + tint)) > 0
