"""What is captured when, with captures that only count; and on a GPU, true ones."""

from typing import Any

import pytest
import torch
from torch import Tensor

from undistill.enhance.backends import captured
from undistill.enhance.backends.captured import MOST, REPEATED, BySize, Run
from undistill.enhance.enhancer import Enhancer
from undistill.heads import Head


class Captures:
    """Graphs that give what the function gives, or something else, or what it gave when they were captured."""

    def __init__(self, off: float = 0.0, fails: bool = False, stale: bool = False) -> None:
        self.off, self.fails, self.stale = off, fails, stale
        self.made: list[tuple[int, ...]] = []
        self.replayed = 0

    def __call__(self, run: Run, x: Tensor) -> Run:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.made.append(tuple(x.shape))
        kept = run(x)

        def replay(x: Tensor) -> Tensor:
            self.replayed += 1
            return kept if self.stale else run(x) + self.off

        return replay


def image(side: int) -> Tensor:
    return torch.full((1, 3, side, side), 0.25)


def test_a_size_is_captured_when_it_repeats() -> None:
    captures = Captures()
    half = BySize(lambda x: x / 2, captures)
    for _ in range(REPEATED + 2):
        assert torch.equal(half(image(8)), image(8) / 2)
    half(image(16))
    assert captures.made == [(1, 3, 8, 8)]
    assert captures.replayed == 1 + 2  # to be trusted, and since


@pytest.mark.parametrize("captures", [Captures(off=0.01), Captures(fails=True), Captures(stale=True)])
def test_what_can_not_be_trusted_is_never_replayed(captures: Captures) -> None:
    half = BySize(lambda x: x / 2, captures)
    for _ in range(REPEATED + 3):
        assert torch.equal(half(image(8)), image(8) / 2)
    assert captures.replayed <= 1
    assert len(captures.made) <= 1  # it is not tried again


def test_few_sizes_are_captured_and_no_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "PIXELS", 64 * 64)
    captures = Captures()
    half = BySize(lambda x: x / 2, captures)
    sides = [8 * number for number in range(1, MOST + 3)]
    for _ in range(REPEATED + 2):  # by turns: none is let go of for another
        for side in (65, *sides):
            assert torch.equal(half(image(side)), image(side) / 2)
    assert captures.made == [(1, 3, side, side) for side in sides[:MOST]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["flux1", "flux1-lite", "tiny-best"])
@pytest.mark.parametrize("number", [0, 1])
def test_graphs_give_what_the_head_gives(name: str, number: int) -> None:
    if number >= torch.cuda.device_count():
        pytest.skip("there is one GPU")
    device = f"cuda:{number}"
    enhancer = Enhancer(Head.from_pretrained(name), device, scale="native")
    some = [torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(seed)) for seed in range(REPEATED + 3)]
    eager = Enhancer(Head.from_pretrained(name), device, scale="native")
    whole: Any = eager._backend
    whole._whole = whole._whole._run
    for each in some:
        assert (enhancer(each) - eager(each)).abs().max() < 2 / 255
    backend: Any = enhancer._backend
    (captured,) = backend._whole._runs.values()
    assert captured is not backend._whole._run
