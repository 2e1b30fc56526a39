"""Heads with each mechanism, as small as they get, and graphs of them that are traced once: that takes seconds."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import strong
from tests.heads.test_grid import painted
from undistill.heads import EsaGenerator, GridHead, Head, UNet
from undistill.heads.esa import EnhancedSpatialAttention
from undistill.heads.pooling import InstanceNorm
from undistill.heads.unet import ChannelAttention


class Mixed(Head):
    """Instance norm, ESA and CBAM's channel attention between two convolutions."""

    multiple = 2
    smallest = 2
    grid = 12  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(residual=False)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1, padding_mode="replicate"),
            InstanceNorm(),
            EnhancedSpatialAttention(4),
            ChannelAttention(4),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(4, 3, 1),
        )

    def body(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layers(x))

    def encode(self, x: Tensor) -> list[Tensor]:
        return [self.layers[:2](x)]

    def reach(self) -> int:
        return 1 + 2 * (1 + 2 * 3 + 3 * 6 + 6) + 2


HEADS: dict[str, Head] = {
    "mixed": strong(Mixed()),
    "grid": painted(GridHead(4, bins=2, bands=1), trained_at=150),
    "esa": strong(EsaGenerator(2, 1)),
    "unet": strong(UNet(2, depth=2)),
}


@pytest.fixture(
    params=["mixed", "grid", *(pytest.param(name, marks=pytest.mark.e2e) for name in ("esa", "unet"))],
)
def head(request: pytest.FixtureRequest) -> Head:
    return HEADS[request.param]


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(autouse=True)
def _traced_once(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDISTILL_CACHE", str(graphs))
