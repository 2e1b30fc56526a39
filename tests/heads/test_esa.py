import pytest
import torch

from undistill.heads.esa import EnhancedSpatialAttention


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 16), (31, 64)])
def test_keeps_any_shape(size: tuple[int, int]) -> None:
    x = torch.randn(2, 8, *size)
    assert EnhancedSpatialAttention(8)(x).shape == x.shape


def test_is_the_input_times_a_sigmoid() -> None:
    attention = EnhancedSpatialAttention(8)
    assert attention.expand.bias is not None
    torch.nn.init.zeros_(attention.expand.weight)
    torch.nn.init.constant_(attention.expand.bias, 100.0)
    x = torch.randn(1, 8, 20, 20)
    assert torch.allclose(attention(x), x)
    torch.nn.init.constant_(attention.expand.bias, 0.0)
    assert torch.allclose(attention(x), x / 2)


def test_one_reduction_four_small_convolutions_one_expansion() -> None:
    # 8 channels reduced to 2: 1x1 and its inverse, the skip's 1x1, one strided and three 3x3 convolutions.
    expected = (8 * 2 + 2) + (2 * 8 + 8) + (2 * 2 + 2) + 4 * (2 * 2 * 9 + 2)
    assert sum(parameter.numel() for parameter in EnhancedSpatialAttention(8).parameters()) == expected
