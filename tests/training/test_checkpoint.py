from pathlib import Path

import torch

from undistill.training import checkpoint


def test_comes_back_bit_for_bit(tmp_path: Path) -> None:
    network = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999))
    network(torch.randn(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "place": {"step": 7, "best": None}}
    checkpoint.save(tmp_path / "last.safetensors", state)
    back = checkpoint.load(tmp_path / "last.safetensors")
    assert back["place"] == {"step": 7, "best": None}
    assert all(torch.equal(back["network"][name], weight) for name, weight in network.state_dict().items())
    twin = torch.optim.Adam(network.parameters(), lr=9.0)
    twin.load_state_dict(back["optimizer"])
    assert twin.param_groups[0]["lr"] == 1e-3
    for old, new in zip(optimizer.state.values(), twin.state.values(), strict=True):
        assert all(torch.equal(old[key], new[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_lists_of_images_and_shared_tensors(tmp_path: Path) -> None:
    image = torch.randn(3, 4, 4)
    checkpoint.save(tmp_path / "x", {"pool": [image, image[:2]], "empty": []})
    back = checkpoint.load(tmp_path / "x")
    assert torch.equal(back["pool"][1], image[:2])
    assert back["empty"] == []
