import pytest
import torch
from torch import Tensor

from tests.conftest import hair, strong
from undistill.heads import EsaGenerator, Head, PatchGAN, ResnetGenerator, UNet
from undistill.heads.pooling import InstanceNorm
from undistill.heads.resnet import Norm
from undistill.metrics.periodic import periodic


def parameters(head: Head) -> int:
    return sum(parameter.numel() for parameter in head.parameters())


def test_published_size_and_cost() -> None:
    published = ResnetGenerator(upsampling="transposed")
    assert parameters(published) == 11_378_179
    assert published.gflop(512) == pytest.approx(396.4, abs=0.1)


def test_default_costs_what_its_docstring_says() -> None:
    assert ResnetGenerator().gflop(512) == pytest.approx(454.4, abs=0.1)


@pytest.mark.parametrize("architecture", [ResnetGenerator, EsaGenerator, UNet])
def test_constructs_without_arguments_and_takes_64_px(architecture: type[ResnetGenerator] | type[UNet]) -> None:
    head = architecture().eval()
    with torch.inference_mode():
        y = head(torch.rand(1, 3, 64, 64) * 2 - 1)
    assert y.shape == (1, 3, 64, 64)
    assert y.abs().max() <= 1


@pytest.mark.parametrize("norm", ["instance", "pixel"])
@pytest.mark.parametrize("architecture", [ResnetGenerator, EsaGenerator])
def test_residual_starts_from_identity(architecture: type[ResnetGenerator], norm: Norm) -> None:
    x = torch.rand(1, 3, 96, 96) * 2 - 1
    head = architecture(8, 2, norm=norm, residual=True)
    assert torch.equal(head(x), x)


def test_refuses_a_size_it_cannot_return() -> None:
    with pytest.raises(ValueError, match=r"multiples of 4, not 64 x 66"):
        ResnetGenerator(8, 2)(torch.zeros(1, 3, 64, 66))


def patterns(head: Head, image: Tensor) -> float:
    """dB of periodic energy that the head draws at the worst of three random weights; the border is left out."""
    inner = (..., slice(32, -32), slice(32, -32))
    assert float(periodic(image[inner])) < 1
    with torch.inference_mode():
        return max(float(periodic(strong(head, seed)(image)[inner])) for seed in range(3))


FLAT = torch.full((1, 3, 384, 384), 0.2)
HEADS = {
    "instance": ResnetGenerator(8, 2),
    "pixel": ResnetGenerator(8, 2, norm="pixel"),
    "esa": EsaGenerator(8, 2),
    "unet": UNet(8, depth=5),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_draws_no_patterns(head: Head) -> None:
    assert patterns(head, FLAT) < 1
    assert patterns(head, hair(384)) < 8


@pytest.mark.parametrize("norm", ["instance", "pixel"])
def test_transposed_convolutions_do(norm: Norm) -> None:
    head = ResnetGenerator(8, 2, "transposed", norm)
    if norm == "pixel":  # instance norm makes nothing of a flat image
        assert patterns(head, FLAT) > 40
    assert patterns(head, hair(384)) > 15


@pytest.mark.parametrize(
    "head",
    [
        ResnetGenerator(4, 2, norm="pixel"),
        EsaGenerator(4, 1, norm="pixel"),
        ResnetGenerator(4, 1, "transposed", "pixel"),
    ],
    ids=["resnet", "esa", "transposed"],
)
def test_receptive_field_is_what_a_gradient_finds(head: Head) -> None:
    strong(head)
    reach = head.reach()
    side = -(-(2 * reach + 80) // head.grid) * head.grid
    x = (torch.rand(1, 3, side, side) * 2 - 1).requires_grad_()
    middle = side // 2 // head.grid * head.grid
    # All outputs of one period of the grid, since the first and the last of it see farthest to one side.
    head(x)[..., middle : middle + head.grid, middle].sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    seen = max(middle - int(rows[0]), int(rows[-1]) - (middle + head.grid - 1))
    assert seen <= reach <= seen + 4 * head.grid


def test_published_size_of_the_discriminator() -> None:
    assert sum(parameter.numel() for parameter in PatchGAN().parameters()) == 2_764_737


def test_a_logit_sees_70_px() -> None:
    x = torch.randn(1, 3, 192, 192, requires_grad=True)
    judge = PatchGAN(4)
    judge.layers = torch.nn.Sequential(*(layer for layer in judge.layers if not isinstance(layer, InstanceNorm)))
    logits = judge(x)
    assert logits.shape == (1, 1, 22, 22)
    logits[0, 0, 10, 10].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 70
