"""Muon against singular values and torch's."""

import torch
from research.tiny.muon import Muon, orthogonal
from torch import nn


def test_all_directions_come_to_weigh_alike() -> None:
    random = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 24, 16, generator=random)
    matrices = torch.cat([matrices, 100 * matrices[:1]])
    for before, after in zip(matrices, orthogonal(matrices), strict=True):
        left, values, right = torch.linalg.svd(before, full_matrices=False)
        kept = left.T @ after @ right.T
        torch.testing.assert_close(kept, torch.diag(kept.diagonal()), atol=1e-4, rtol=0)
        large = kept.diagonal()[values > values[0] / 20]
        assert len(large) > 10
        assert large.min() > 0.6
        assert large.max() < 1.3
    torch.testing.assert_close(orthogonal(matrices.mT), orthogonal(matrices).mT)


def test_steps_are_torchs_but_for_bfloat16() -> None:
    random = torch.Generator().manual_seed(0)
    shapes = [(8, 24), (24, 8), (8, 24), (8, 8)]
    weights = [torch.randn(shape, generator=random) for shape in shapes]
    ours, theirs = ([nn.Parameter(matrix.clone()) for matrix in weights] for _ in range(2))
    optimizers = (
        Muon(ours, lr=0.1),
        torch.optim.Muon(theirs, lr=0.1, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = b.grad = torch.randn(a.shape, generator=random)
        for optimizer in optimizers:
            optimizer.step()
    for before, a, b in zip(weights, ours, theirs, strict=True):
        moved = (a - before).norm()
        assert (a - b).norm() < 0.02 * moved
