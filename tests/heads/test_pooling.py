import pytest
import torch

from undistill.heads.pooling import GlobalPool, InstanceNorm, Region, Tile, WholeImage, known_statistics


def test_instance_norm_is_torchs() -> None:
    x = torch.randn(2, 3, 10, 12)
    assert torch.allclose(InstanceNorm()(x), torch.nn.InstanceNorm2d(3)(x))


def test_tiles_know_the_whole_image() -> None:
    x = torch.randn(1, 3, 8, 12) + torch.arange(12.0)
    head = torch.nn.Sequential(InstanceNorm(), torch.nn.ReLU(), InstanceNorm())
    tiles = [Tile(x[..., left : left + 4], 0, 8, 0, 4, Region(0, left, 8, 12)) for left in (0, 4, 8)]
    with known_statistics(head, head, lambda: tiles) as run:
        pieces = torch.cat([run(tile) for tile in tiles], dim=3)
    assert torch.allclose(pieces, head(x), atol=1e-5)


def test_only_the_tiles_own_part_counts() -> None:
    pool = GlobalPool("maximum")
    x = torch.zeros(1, 1, 4, 4)
    x[..., 3] = 9.0
    with known_statistics(pool, lambda x: pool(x)[0], lambda: [Tile(x, 0, 4, 0, 3, Region(0, 0, 4, 4))]):
        mean, maximum = pool(x)
    assert float(mean) == float(maximum) == 0.0


def test_statistics_are_forgotten_afterwards() -> None:
    norm = InstanceNorm()
    with known_statistics(norm, norm, lambda: [Tile(torch.randn(1, 2, 4, 4), 0, 4, 0, 4, Region(0, 0, 4, 4))]):
        pass
    x = torch.randn(1, 2, 4, 4) * 100
    assert torch.allclose(norm(x), torch.nn.InstanceNorm2d(2)(x))


def test_instance_norm_keeps_channels_last_in_training() -> None:
    x = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    last = x.to(memory_format=torch.channels_last)
    norm = InstanceNorm()
    assert norm(last).is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(norm(last), norm(x), atol=1e-5)
    assert torch.equal(norm.eval()(last), norm(x))


def test_a_compiled_norm_needs_no_look_up_of_the_call() -> None:
    x = torch.randn(1, 2, 8, 8)
    norm = torch.compile(InstanceNorm(), backend="eager", fullgraph=True)  # raises if the graph breaks
    assert torch.allclose(norm(x), torch.nn.InstanceNorm2d(2)(x))


@pytest.mark.parametrize("size", [(9, 13), (31, 40), (70, 90)])  # smaller, nearly the same, larger
def test_tiles_see_the_whole_image(size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, 37, 50)
    layer = WholeImage()

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            whole, place = self.layer(x, lambda *_: size)
            seen.append((whole, place))
            return x

    seen: list[tuple[torch.Tensor, Region]] = []
    head = Head()
    tiles = [
        # 3 px of the tile's left side are its neighbour's
        Tile(
            x[..., top : top + 20, max(0, left - 3) : left + 17],
            0,
            20,
            min(left, 3),
            20,
            Region(top, max(0, left - 3), 37, 50),
        )
        for top in (0, 20)
        for left in (0, 17, 34)
    ]
    with known_statistics(head, head, lambda: tiles) as run:
        run(tiles[4])
    ((whole, place),) = seen
    assert torch.allclose(whole, layer(x, lambda *_: size)[0], atol=1e-5)
    assert place == Region(20, 14, 37, 50)
