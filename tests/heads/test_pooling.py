import torch

from undistill.heads.pooling import GlobalPool, InstanceNorm, Tile, known_statistics


def test_instance_norm_is_torchs() -> None:
    x = torch.randn(2, 3, 10, 12)
    assert torch.allclose(InstanceNorm()(x), torch.nn.InstanceNorm2d(3)(x))


def test_tiles_know_the_whole_image() -> None:
    x = torch.randn(1, 3, 8, 12) + torch.arange(12.0)
    head = torch.nn.Sequential(InstanceNorm(), torch.nn.ReLU(), InstanceNorm())
    tiles = [Tile(x[..., left : left + 4], 0, 8, 0, 4) for left in (0, 4, 8)]
    with known_statistics(head, head, lambda: tiles):
        pieces = torch.cat([head(tile.x) for tile in tiles], dim=3)
    assert torch.allclose(pieces, head(x), atol=1e-5)


def test_only_the_tiles_own_part_counts() -> None:
    pool = GlobalPool("maximum")
    x = torch.zeros(1, 1, 4, 4)
    x[..., 3] = 9.0
    with known_statistics(pool, lambda x: pool(x)[0], lambda: [Tile(x, 0, 4, 0, 3)]):
        mean, maximum = pool(x)
    assert float(mean) == float(maximum) == 0.0


def test_statistics_are_forgotten_afterwards() -> None:
    norm = InstanceNorm()
    with known_statistics(norm, norm, lambda: [Tile(torch.randn(1, 2, 4, 4), 0, 4, 0, 4)]):
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
