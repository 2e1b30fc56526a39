import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from tests.conftest import psnr, strong
from tests.heads.test_grid import painted
from undistill.enhance import Enhancer, enhancer
from undistill.heads import EsaGenerator, GridHead, Head, ResnetGenerator, UNet
from undistill.images import decode

LOCAL = strong(ResnetGenerator(8, 2, norm="pixel", residual=True))
with torch.no_grad():
    list(LOCAL.parameters())[-2].mul_(0.05)  # the convolution to RGB: a residual is small


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70))
def test_any_size_from_1_px(height: int, width: int) -> None:
    image = picture(height, width)
    enhanced = Enhancer(LOCAL, "cpu")(image)
    assert enhanced.shape == image.shape
    assert enhanced.dtype == np.uint8


def test_padding_changes_nothing_far_from_it() -> None:
    image = picture(126, 130)
    padded = np.pad(image, ((0, 2), (0, 2), (0, 0)), mode="symmetric")
    run = Enhancer(LOCAL, "cpu")
    assert np.array_equal(run(image), run(padded)[:126, :130])


def test_all_kinds_of_images_give_the_same() -> None:
    run = Enhancer(LOCAL, "cpu")
    array = picture(40, 52)
    expected = run(array)
    assert not np.array_equal(expected, array)
    assert np.array_equal(np.asarray(run(Image.fromarray(array))), expected)
    chw = torch.from_numpy(array.copy()).permute(2, 0, 1)
    assert np.array_equal(run(chw).permute(1, 2, 0).numpy(), expected)
    assert np.array_equal(run(torch.from_numpy(array.copy())[None], channels_last=True)[0].numpy(), expected)
    with pytest.raises(ValueError, match=r"take \(H, W, 3\) or \(N, H, W, 3\)"):
        run(chw, channels_last=True)
    for unit in (chw.float() / 255, chw.double() / 255):
        result = run(unit)
        assert result.dtype == unit.dtype
        assert result.min() >= 0
        assert result.max() <= 1
        assert np.abs(result.permute(1, 2, 0).numpy() * 255 - expected).max() <= 0.51
    halves = run(array.astype(np.float32) / 255)
    assert halves.dtype == np.float32
    batch = np.stack([array, array[::-1]])
    assert np.abs(run(batch)[0].astype(int) - expected).max() <= 1
    assert run(chw[None]).shape == (1, 3, 40, 52)


def test_alpha_and_other_modes() -> None:
    run = Enhancer(LOCAL, "cpu")
    image = Image.fromarray(picture(30, 30)).convert("RGBA")
    image.putalpha(Image.fromarray(picture(30, 30)[..., 0]))
    enhanced = run(image)
    assert enhanced.mode == "RGBA"
    assert np.array_equal(np.asarray(enhanced)[..., 3], np.asarray(image)[..., 3])
    assert run(image.convert("L")).mode == "RGB"


@pytest.mark.parametrize(
    "value", [picture(20, 20), torch.rand(2, 3, 17, 33), Image.fromarray(picture(9, 9)).convert("LA")]
)
def test_strength_0_is_exact(value: Any) -> None:
    run = Enhancer(LOCAL, "cpu")
    same = run(value, strength=0)
    assert same is not value
    assert np.array_equal(np.asarray(same), np.asarray(value))


def test_strength_mixes() -> None:
    run = Enhancer(LOCAL, "cpu", torch.float32)
    image = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    full, half = run(image), run(image, strength=0.5)
    inside = (full > 0) & (full < 1)  # where nothing was clamped
    assert torch.allclose(half[inside], ((image + full) / 2)[inside], atol=1e-5)


@pytest.mark.parametrize(
    ("value", "strength"),
    [
        (np.zeros((4, 4), np.uint8), 1.0),
        (np.zeros((3, 8, 8), np.uint8), 1.0),
        (np.zeros((8, 8, 3), np.int32), 1.0),
        (np.zeros((0, 8, 3), np.uint8), 1.0),
        (torch.zeros(8, 8, 3), 1.0),
        (torch.zeros(3, 8, 8, dtype=torch.long), 1.0),
        (torch.zeros(3, 8, 8), 1.5),
    ],
)
def test_refuses(value: Any, strength: float) -> None:
    with pytest.raises(ValueError, match=r"take|hold no pixel|between 0 and 1"):
        Enhancer(LOCAL, "cpu")(value, strength)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "NaN or infinite: take finite"),
        (float("-inf"), "NaN or infinite: take finite"),
        (255.0, r"from 0\.5 to 255, not in \[0, 1\]: divide by 255"),
        (-0.25, r"from -0\.25 to 0\.5, not in \[0, 1\]: clamp"),
        (1.001, r"to 1\.001, not in \[0, 1\]: clamp"),
    ],
)
def test_refuses_floats_that_are_no_picture(value: float, words: str, batch: bool) -> None:
    run = Enhancer(LOCAL, "cpu")
    tensor = torch.full((2, 3, 8, 8) if batch else (3, 8, 8), 0.5, dtype=torch.float64)
    tensor[..., 1, 3, 4] = value
    kinds: list[Any] = [tensor, tensor.half() if value == 255 else tensor.float(), tensor.movedim(-3, -1).numpy()]
    for images in kinds:
        for strength in (0.0, 1.0):
            with pytest.raises(ValueError, match=words) as error:
                run(images, strength)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_pil_image_comes_back_as_a_file_does(strength: float) -> None:
    run = Enhancer(LOCAL, "cpu")
    exif, text = Image.Exif(), PngInfo()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "Ada Okafor"
    text.add_text("parameters", "A professional portrait\nSteps: 4")
    file = BytesIO()
    Image.fromarray(picture(20, 30)).save(file, "PNG", exif=exif, pnginfo=text)
    opened = Image.open(file)
    for image in (opened, opened.copy(), opened):  # the second is no file's; and the first is as it was
        enhanced = run(image, strength)
        assert enhanced.size == (20, 30)
        assert enhanced.getexif()[ExifTags.Base.Artist] == "Ada Okafor"
        assert enhanced.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert enhanced.info["parameters"] == "A professional portrait\nSteps: 4"
        decoded = decode(file)
        assert np.array_equal(np.asarray(enhanced), run(decoded.pixels, strength))
    assert opened.getexif()[ExifTags.Base.Orientation] == 6
    saved = BytesIO()
    enhanced.save(saved, "JPEG", exif=enhanced.info["exif"])
    assert Image.open(saved).getexif()[ExifTags.Base.Artist] == "Ada Okafor"


def test_bf16_keeps_the_pictures_precision() -> None:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    exact, coarse = (Enhancer(LOCAL, "cpu", dtype)(image) for dtype in (torch.float32, torch.bfloat16))
    assert not torch.equal(exact, coarse)
    assert psnr(exact, coarse, 1.0) > 45


TILED = {
    "pixel": LOCAL,
    "instance": strong(ResnetGenerator(8, 2)),
    "esa": strong(EsaGenerator(8, 2)),
    "unet": strong(UNet(8, depth=4)),
    "grid": painted(GridHead(16)),
    "grid-trained": painted(GridHead(16), trained_at=150),
}


@pytest.mark.parametrize("head", TILED.values(), ids=TILED.keys())
@pytest.mark.parametrize("size", [(700, 500), (340, 811)])
def test_tiles_equal_the_whole(head: Head, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.from_numpy(picture(*size).copy()).permute(2, 0, 1).float() / 255
    image[:, :, : size[1] // 2] *= 0.3  # so that no part has the statistics of the whole
    run = Enhancer(head, "cpu")
    whole = run(image)
    monkeypatch.setattr(enhancer, "WHOLE", 256 * 256)
    monkeypatch.setattr(enhancer, "CORE", 256)
    tiled = run(image)
    assert psnr(whole, tiled, 1.0) >= 45
    # No seam: the worst column is no worse than some others.
    error = (whole - tiled).abs().mean((0, 1))
    assert float(error.max()) < 2 / 255


FAR = {"unet": strong(UNet(8)), "esa": strong(EsaGenerator(8)), "esa-pixel": strong(EsaGenerator(8, norm="pixel"))}


@pytest.mark.parametrize("head", FAR.values(), ids=FAR.keys())
def test_tiles_equal_the_whole_for_heads_that_see_farther_than_a_tile(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.from_numpy(picture(64, 1500).copy()).permute(2, 0, 1).float() / 255
    run = Enhancer(head, "cpu")
    whole = run(image)
    monkeypatch.setattr(enhancer, "WHOLE", 64 * 256)
    monkeypatch.setattr(enhancer, "CORE", 512)
    assert psnr(whole, run(image), 1.0) >= 45


def test_a_tiled_image_leaves_no_trace_in_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Enhancer(TILED["instance"], "cpu")
    small = picture(64, 64, seed=1)
    before = run(small)
    monkeypatch.setattr(enhancer, "WHOLE", 256 * 256)
    run(picture(300, 300))
    assert np.array_equal(run(small), before)


@pytest.mark.parametrize("head", ["instance", "unet", "grid-trained"])
def test_threads_share_an_enhancer(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Enhancer(TILED[head], "cpu")
    for name, px in (("WHOLE", 96 * 96), ("CORE", 96), ("HALO", 16)):
        monkeypatch.setattr(enhancer, name, px)
    # One of them small, in one piece: it must not get the statistics of another's tiles.
    images = [picture(120 + 8 * number, 100, seed=number) // (1 + number % 3) for number in range(7)]
    images.append(picture(60, 64))
    one_by_one = [run(image) for image in images]
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(run, images))
    assert all(np.array_equal(a, b) for a, b in zip(one_by_one, at_once, strict=True))


def residual(trained_at: int | None) -> Head:
    head = ResnetGenerator(8, 1, norm="pixel", residual=True)
    head.load_state_dict(strong(head).state_dict())
    for parameter in list(head.parameters())[-2:]:
        parameter.data *= 0.1
    head.trained_at = trained_at
    return head.eval()


def test_a_residual_head_runs_at_the_size_of_its_training() -> None:
    image = torch.rand(2, 3, 96, 120, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    native = Enhancer(residual(None), "cpu")
    assert torch.equal(Enhancer(residual(96), "cpu")(image), native(image))
    assert torch.equal(Enhancer(residual(48), "cpu", scale="native")(image), native(image))
    small = torch.nn.functional.interpolate(image, (48, 60), mode="bilinear", antialias=True)
    change = torch.nn.functional.interpolate(native(small) - small, (96, 120), mode="bilinear")
    assert change.abs().max() > 0.02
    assert torch.allclose(Enhancer(residual(48), "cpu")(image), image + change, atol=1e-4)
    # Smaller than the training's: it is enlarged for the head.
    large = torch.nn.functional.interpolate(image, (192, 240), mode="bilinear")
    change = torch.nn.functional.interpolate(native(large) - large, (96, 120), mode="bilinear", antialias=True)
    assert torch.allclose(Enhancer(residual(192), "cpu")(image), image + change, atol=1e-4)
    whole = residual(48)
    whole.residual = False  # its picture is no change that could be added
    assert Enhancer(whole, "cpu")(image).shape == image.shape
    assert Enhancer(whole, "cpu")._trained_size(96, 120) is None
    with pytest.raises(ValueError, match="take one of trained, native"):
        Enhancer(whole, "cpu", scale="full")  # type: ignore[arg-type]


def test_a_large_image_is_scaled_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Enhancer(residual(64), "cpu")
    image = np.stack([picture(150, 131, seed=seed) for seed in range(3)])  # two at once, then one
    monkeypatch.setattr(enhancer, "WHOLE", 2 * 150 * 131)
    at_once = run(image)
    monkeypatch.setattr(enhancer, "WHOLE", 128 * 128)
    monkeypatch.setattr(enhancer, "CORE", 64)
    assert np.abs(run(image).astype(int) - at_once).max() <= 1
    assert run(picture(1, 3000)).shape == (1, 3000, 3)


MEMORY = """
import resource, sys
import numpy as np
from undistill.enhance import Enhancer
from undistill.heads import GridHead, Head, ResnetGenerator
head, height, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
made = {"resnet": lambda: ResnetGenerator(2, 1, norm="pixel", residual=True), "grid": GridHead}
run = Enhancer(made[head]() if head in made else head, "cpu", scale="native")
image = np.zeros((height, width, 3), np.uint8)
image[:] = np.arange(height, dtype=np.uint16).astype(np.uint8)[:, None, None]
run(image[:64, :64].copy())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = run(image)
assert head not in made or np.array_equal(result, image)  # untrained residual heads change nothing
assert head in made or "torch._dynamo" not in sys.modules  # it would double the time until the first image
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(
    ("head", "height", "width", "most"),
    # The bookkeeping of a large picture with a head that weighs nothing (two copies in floats, 0.2 GB, would be seen),
    # and the largest tile of a shipped one: both at once take minutes.
    [
        pytest.param("resnet", 2048, 4096, 0.6e9, marks=pytest.mark.e2e),
        ("grid", 2048, 4096, 0.6e9),
        pytest.param("flux1-lite", 1408, 1408, 1.2e9, marks=pytest.mark.e2e),
    ],
)
def test_large_images_take_less_than_2_gb(head: str, height: int, width: int, most: float) -> None:
    arguments = [sys.executable, "-c", MEMORY, head, str(height), str(width)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert int(done.stdout) < most  # 2 GB together
