import numpy as np
import torch

from undistill.training.adversarial import augment


def test_shifts_and_cuts_out() -> None:
    ramp = torch.arange(1.0, 65.0).expand(8, 3, 64, 64)
    shown = augment(ramp, np.random.default_rng(0))
    assert shown.shape == ramp.shape
    assert not torch.equal(shown[0], shown[1])
    for image in shown:
        share = float((image == 0).float().mean())
        assert 0.05 < share < 0.55
    shifts = {float((image - ramp[0])[image > 0].median()) for image in shown}
    assert len(shifts) > 3
    assert all(abs(shift) <= 8 for shift in shifts)


def test_ranks_are_shown_what_one_process_is() -> None:
    batch = torch.rand(6, 3, 32, 32)
    shares = [augment(x, np.random.default_rng(3), rank, 3) for rank, x in enumerate(batch.chunk(3))]
    assert torch.equal(torch.cat(shares), augment(batch, np.random.default_rng(3)))


def test_is_a_function_of_the_random_numbers_and_lets_gradients_through() -> None:
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    shown = augment(x, np.random.default_rng(3))
    assert torch.equal(shown, augment(x, np.random.default_rng(3)))
    (slope,) = torch.autograd.grad(shown.sum(), x)
    assert 0.3 < float(slope.mean()) < 0.95
