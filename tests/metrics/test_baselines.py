from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from undistill.dataset.samples import list_files
from undistill.metrics.baselines import SEARCHES, ChannelStatistics, Filter, channel_statistics, search

Folders = Callable[..., Path]
FLAT = ChannelStatistics(np.full(3, 100.0), np.full(3, 20.0))
PIXELS = np.random.default_rng(0).integers(30, 220, (40, 44, 3), dtype=np.uint8)


def apply(filter: Filter, id: str = "a", teacher: ChannelStatistics = FLAT) -> np.ndarray:
    return filter(PIXELS, id, FLAT, teacher)


def roughness(pixels: np.ndarray) -> float:
    return float(np.abs(np.diff(pixels.astype(float), axis=0)).mean())


def test_the_default_changes_nothing() -> None:
    assert np.array_equal(apply(Filter()), PIXELS)


def test_both_directions() -> None:
    rough = roughness(PIXELS)
    assert roughness(apply(Filter(sharpen=0.5))) > rough > roughness(apply(Filter(sharpen=-0.5)))
    assert roughness(apply(Filter(grain=20))) > rough > roughness(apply(Filter(grain=-1)))
    assert roughness(apply(Filter(blur=1))) < rough


def test_grain_is_the_images_own_and_of_the_size_asked() -> None:
    grain = Filter(grain=4)
    assert np.array_equal(apply(grain), apply(grain))
    assert not np.array_equal(apply(grain), apply(grain, "b"))
    noise = apply(grain).astype(float) - PIXELS
    assert noise.std() == pytest.approx(4, rel=0.1)
    assert np.ptp(noise, axis=2).max() <= 1  # luminance


def test_colour_matches_mean_and_spread() -> None:
    own = ChannelStatistics(PIXELS.reshape(-1, 3).mean(0), PIXELS.reshape(-1, 3).std(0))
    wanted = ChannelStatistics(np.array([120.0, 110, 100]), np.array([30.0, 25, 20]))
    matched = Filter(match=1)(PIXELS, "a", own, wanted).reshape(-1, 3)
    assert matched.mean(0) == pytest.approx(wanted.mean, abs=1)
    assert matched.std(0) == pytest.approx(wanted.spread, abs=1)
    grey = apply(Filter(saturation=0))
    assert np.ptp(grey, axis=2).max() == 0


def test_the_look_of_a_folder(image_folder: Folders) -> None:
    samples = list_files([image_folder("in", 3)], (0, 1))
    from undistill.images import read_rgb

    pixels = np.concatenate([read_rgb(sample.path).reshape(-1, 3) for sample in samples]).astype(float)
    look = channel_statistics(samples)
    assert look.mean == pytest.approx(pixels.mean(0))
    assert look.spread == pytest.approx(pixels.std(0))


def test_the_search_finds_the_best_of_each_kind_and_asks_once() -> None:
    asked = []
    searched = []

    def score(filter: Filter) -> float:
        asked.append(filter)
        return (
            abs(filter.sharpen + 0.41)
            + abs(filter.saturation - 1.13)
            + abs(filter.match - 0.6)
            + abs(filter.grain - 3.3) / 10
            + filter.blur
        )

    best = search(score, lambda: searched.append(1))
    assert len(asked) == len(set(asked)) > 30
    assert len(searched) == SEARCHES
    assert best["sharpen"].sharpen == pytest.approx(-0.41, abs=0.1)
    assert best["grain"].grain == pytest.approx(3.3, abs=0.4)
    assert best["colour"].saturation == pytest.approx(1.13, abs=0.1)
    assert best["colour"].match == pytest.approx(0.6, abs=0.1)
    assert best["blur"] == Filter()
    assert score(best["combined"]) < min(score(best[kind]) for kind in ("sharpen", "grain", "colour"))


def test_where_every_change_harms_nothing_is_changed() -> None:
    def score(filter: Filter) -> float:
        return float(filter != Filter())

    assert set(search(score, lambda: None).values()) == {Filter()}
