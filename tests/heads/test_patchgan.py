import torch

from undistill.heads import PatchGAN
from undistill.heads.pooling import InstanceNorm


def test_published_size() -> None:
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
