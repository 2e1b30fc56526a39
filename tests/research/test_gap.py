from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from research.gap import framing

from undistill.faces import Face


@dataclass
class Landmarks:
    points: list[tuple[float, float]]

    def parts(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(x=x, y=y) for x, y in self.points]


def face(*points: tuple[float, float]) -> Face:
    box = SimpleNamespace(left=lambda: 50, top=lambda: 100, width=lambda: 200)
    return Face(np.zeros((400, 500, 3), np.uint8), box, Landmarks(list(points)))


def test_framing_tells_place_size_and_pose() -> None:
    """Eyes 100 px apart, the nose below their middle; then the nose 20 px aside, then one eye 10 px lower."""
    straight = framing(face((90, 100), (110, 100), (190, 100), (210, 100), (150, 160)))
    assert np.allclose(straight, [0.125, 0.25, 0.5, 0, 0.06, 0], atol=1e-6)
    aside = framing(face((90, 100), (110, 100), (190, 100), (210, 100), (170, 160)))
    assert np.allclose(aside[3:], [0.02, 0.06, 0], atol=1e-6)
    assert framing(face((90, 100), (110, 100), (190, 110), (210, 110), (150, 160)))[5] > 0.009
