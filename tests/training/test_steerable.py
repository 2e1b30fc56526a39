import torch

from undistill.training.steerable import OCTAVES, Steerable


def test_flat_light_has_no_edges() -> None:
    """Only the Gaussian of Y answers."""
    for octave in Steerable().maps(torch.full((1, 3, 128, 128), 0.5)):
        means = octave.mean((0, 2, 3))
        assert abs(float(means[0]) - 0.5) < 1e-5
        assert float(means[1:].abs().max()) < 1e-5


def test_edges_and_lines_of_any_direction_are_found() -> None:
    """What first derivatives say of a turned wave is its turned gradient; the octave that it lies in says most."""
    at = torch.arange(256.0)
    wave = torch.sin(2 * torch.pi * at / 64)
    lying, standing = (image.expand(1, 3, 256, 256) for image in (wave[:, None], wave[None, :]))
    seen = [Steerable().maps(image) for image in (lying, standing)]
    assert [tuple(octave.shape) for octave in seen[0]] == [(1, 36, 256 >> k, 256 >> k) for k in range(OCTAVES)]
    for one, other in zip(*seen, strict=True):
        across, along = (octave[0, 1:3].mean((1, 2)) for octave in (one, other))
        assert torch.allclose(across, along.flip(0), atol=1e-4)
        assert across[0] < 1e-4 < across[1]
    strengths = [float(octave[0, 2].mean()) for octave in seen[0]]
    assert strengths.index(max(strengths)) in (3, 4)  # a wave of 8 or 4 px, there
