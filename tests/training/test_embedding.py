import torch

from tests.training.test_mmd import sides
from undistill.losses import LPIPS
from undistill.metrics.distance import gaussian
from undistill.training.embedding import CORNERS, FREQUENCIES, Embedding, Projection, shrunk


@torch.no_grad()
def test_the_embedding_gives_the_squared_mmd() -> None:
    lpips = LPIPS()
    embedding = Embedding(lpips, 64, seed=0)
    x, y = (embedding.everywhere(side) for side in sides(64))
    embedding.fit(x, y)
    difference = (embedding(x) - embedding(y)).mean((0, 1)).view(5, -1)
    for layer, fitted in enumerate(embedding.projections):
        a, b = (((side[layer][:, 0] - fitted.mean) @ fitted.whiten).numpy() for side in (x, y))
        exact = gaussian(a, a).mean() + gaussian(b, b).mean() - 2 * gaussian(a, b).mean()
        assert abs(float(difference[layer].square().sum()) - exact) < 0.1 * exact


def test_few_rows_are_whitened_as_many_are() -> None:
    """In the space that they span: mean 0 and, but for the ridge, variance 1 in every direction that is kept."""
    rows = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 2, 50) + 3
    fitted = Projection.fitted(rows[:12], rows[12:], torch.Generator().manual_seed(0))
    whitened = (rows - fitted.mean) @ fitted.whiten
    assert whitened.shape == (20, 19)
    assert torch.allclose(whitened.mean(0), torch.zeros(19), atol=1e-4)
    assert torch.allclose(whitened.T @ whitened / 20, torch.eye(19), atol=2e-2)
    assert fitted(rows).shape == (20, FREQUENCIES)


def test_a_view_is_a_square_of_the_image() -> None:
    lpips, images = LPIPS(), sides(2)[0].repeat(1, 1, 2, 2) * torch.linspace(0, 1, 128)
    embedding = Embedding(lpips, 64, seed=0, view=64, places=CORNERS)
    everywhere = embedding.everywhere(images)
    assert [tuple(some.shape) for some in everywhere] == [(2, 4, 6 * n) for n in (64, 192, 384, 256, 256)]
    corners = (images[..., :64, :64], images[..., :64, 64:], images[..., 64:, :64], images[..., 64:, 64:])
    for place, corner in enumerate(corners):
        assert torch.equal(everywhere[0][:, place], Embedding.pooled(lpips.maps(corner))[0])


def test_chance_is_taken_away_and_a_difference_stays() -> None:
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 8, generator=random), torch.randn(40, 8, generator=random)
    chance = x.mean(0) - y.mean(0)
    assert shrunk(x, y).norm() < 0.7 * chance.norm()
    y[:, 0] += 5
    assert abs(float(shrunk(x, y)[0]) + 5) < 0.3
