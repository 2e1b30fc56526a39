import re
from copy import deepcopy

import pytest
import torch
from research.training_speed import esa_recipe, main, published, speedup

from undistill.training.loop import start
from undistill.training.method import train_step
from undistill.training.unpaired import Unpaired


@pytest.mark.parametrize(("bfloat16", "loops"), [(False, 1), (True, 2)])
def test_prints_each_loop_beside_the_published_one(
    bfloat16: bool, loops: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("research.training_speed.has_bfloat16", lambda device: bfloat16)
    main(size=32, batch=2, turns=2, width=4, blocks=1, compiled=False, device="cpu")
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| (.+) \|$", capsys.readouterr().out, re.MULTILINE)
    assert [name.split(":")[0] for name, *_ in rows] == ["published", *["`precision"] * loops]
    assert all(float(rate) > 0 for _, rate, _ in rows)
    assert rows[0][2] == "1"
    for *_, ratio in rows[1:]:
        middle, low, high = map(float, re.findall(r"[\d.]+", ratio))
        assert low <= middle <= high


def test_both_loops_do_the_same_sums() -> None:
    recipe = esa_recipe(32, 1, width=4, blocks=1, precision="32-true")
    method = Unpaired(start(recipe, "cpu"), recipe)
    step = published({name: deepcopy(network) for name, network in method.networks.items()}, recipe)
    random = torch.Generator().manual_seed(0)
    for number in range(3):
        x, y = (torch.rand(1, 3, 32, 32, generator=random) * 2 - 1 for _ in range(2))
        losses = train_step(method, [(x, y)], number)
        generators, discriminators = step(x, y)
        assert generators == pytest.approx(float(losses["loss_gan"] + recipe.cycle * losses["loss_cycle"]), rel=1e-4)
        assert discriminators == pytest.approx(float(losses["loss_discriminator"]), rel=1e-4)


def test_a_speedup_is_the_geometric_mean_of_the_turns() -> None:
    middle, low, high = speedup([2.0, 8.0], [1.0, 1.0])
    assert middle == pytest.approx(4)
    assert low < 2
    assert high > 8
    assert speedup([3.0, 6.0], [1.0, 2.0]) == pytest.approx((3, 3, 3))
