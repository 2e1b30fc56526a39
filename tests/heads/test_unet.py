import torch
from torch import nn

from undistill.heads import UNet
from undistill.heads.unet import ChannelAttention, SpatialAttention


def test_depth_six_has_six_levels() -> None:
    unet = UNet(width=4)
    assert (len(unet.down), len(unet.up)) == (6, 5)
    assert unet.multiple == 32
    shapes: list[int] = []
    for block in unet.down:
        block.register_forward_hook(lambda _module, _inputs, output: shapes.append(output.shape[-1]))
    unet(torch.zeros(1, 3, 64, 64))
    assert shapes == [64, 32, 16, 8, 4, 2]


def test_every_block_has_both_attentions() -> None:
    unet = UNet(width=4)
    for kind in (ChannelAttention, SpatialAttention):
        assert sum(isinstance(module, kind) for module in unet.modules()) == 11


def test_channel_attention_adds_what_mean_and_maximum_say() -> None:
    attention = ChannelAttention(2, reduction=1)
    first, last = attention.mlp[0], attention.mlp[2]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        x = torch.tensor([[[[0.0, 2.0]], [[1.0, 3.0]]]])
        weight = torch.sigmoid(torch.tensor([1.0 + 2.0, 2.0 + 3.0])).view(1, 2, 1, 1)
        assert torch.allclose(attention(x), x * weight)


def test_residual_starts_from_identity() -> None:
    x = torch.rand(1, 3, 64, 96) * 2 - 1
    assert torch.equal(UNet(width=4, residual=True)(x), x)
