from pathlib import Path

import pytest
import yaml
from torch import nn

from undistill.heads import EsaGenerator, ResnetGenerator, UNet
from undistill.training.adversarial import build_networks
from undistill.training.recipe import (
    PairedRecipe,
    RecipeError,
    UnpairedRecipe,
    build_head,
    change_recipe,
    dump_recipe,
    make_recipe,
    plan_head,
    read_recipe,
)

RECIPES = Path(__file__).parents[2] / "recipes"
PLAIN = {
    "mode": "paired",
    "head": {"architecture": "UNet", "width": 4},
    "data": {"crop": 64},
    "steps": 10,
    "lr": 1e-4,
}


LARGE = [
    path
    for path in (*sorted(RECIPES.glob("*.yaml")), *sorted(RECIPES.glob("flux1-512/*.yaml")))
    if "sweep" not in path.name
]
TINY = [path for path in sorted((RECIPES / "tiny").glob("*.yaml")) if "sweep" not in path.name]


@pytest.mark.parametrize("path", [*LARGE, *TINY], ids=lambda path: path.stem)
def test_recipes_in_the_repository_are_followed(path: Path) -> None:
    recipe = read_recipe(path)
    build_head(recipe.head)
    assert make_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize("path", TINY, ids=lambda path: path.stem)
def test_heads_for_tiny_are_small(path: Path) -> None:
    head = build_head(read_recipe(path).head)
    assert 2 * sum(parameter.numel() for parameter in head.parameters()) < 1.7e6
    assert head.multiple <= 64


def test_paper_recipes_are_the_papers() -> None:
    unet = read_recipe(RECIPES / "paper-unet.yaml")
    assert isinstance(unet, PairedRecipe)
    assert isinstance(build_head(unet.head), UNet)
    assert (unet.data.size, unet.data.fraction, unet.lr, unet.patience, unet.structure) == (
        512,
        0.01,
        5e-5,
        10,
        "gradient",
    )
    for name, architecture in (("paper-cyclegan", ResnetGenerator), ("paper-esa-cyclegan", EsaGenerator)):
        gan = read_recipe(RECIPES / f"{name}.yaml")
        assert isinstance(gan, UnpairedRecipe)
        assert type(build_head(gan.head)) is architecture
        assert (gan.data.size, gan.data.fraction, gan.cycle, gan.lr, gan.epochs) == (512, 0.2, 2, 1e-4, 190)


@pytest.mark.parametrize(
    "pair", [("paper-cyclegan", "paper-esa-cyclegan"), ("tiny/cyclegan", "tiny/esa")], ids=lambda pair: pair[0]
)
def test_cyclegan_and_esa_differ_in_the_attention_alone(pair: tuple[str, str]) -> None:
    plain, esa = (read_recipe(RECIPES / f"{name}.yaml").model_dump() for name in pair)
    assert plain["head"].pop("architecture") == "ResnetGenerator"
    assert esa["head"].pop("architecture") == "EsaGenerator"
    assert plain == esa


def test_published_cyclegan_starts_as_published() -> None:
    recipe = read_recipe(RECIPES / "published-cyclegan.yaml")
    assert isinstance(recipe, UnpairedRecipe)
    assert (recipe.batch, recipe.ema, recipe.cycle, recipe.lr, recipe.epochs, recipe.pool) == (1, 0, 10, 2e-4, 200, 50)
    networks = build_networks(recipe, ["G"], ["D_Y"])
    assert any(isinstance(module, nn.ConvTranspose2d) for module in networks["G"].modules())
    for network in networks.values():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
                assert module.bias is not None
                assert not module.bias.any()
    ours = build_networks(change_recipe(recipe, {"init": "default"}), ["G"], ["D_Y"])  # type: ignore[arg-type]
    assert float(next(ours["D_Y"].parameters()).detach().std()) > 0.05


def test_the_old_name_of_mmd_is_known() -> None:
    assert make_recipe({**PLAIN, "mode": "matched"}) == make_recipe({**PLAIN, "mode": "mmd"})
    assert yaml.safe_load(dump_recipe(make_recipe({**PLAIN, "mode": "matched"})))["mode"] == "mmd"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bach": 4}, "unknown key bach; did you mean batch?"),
        ({"cycle": 2}, "unknown key cycle"),  # of the other mode
        ({"foo": 2}, "unknown key foo; known are seed, batch, accumulate, epochs, steps, lr, precision, ema, "),
        ({"data": {"crop": 64, "colur": 0.1}}, "data: unknown key colur; did you mean colour?"),
        (
            {"head": {"architecture": "EsaGenerator", "blocks": 10**7}},
            "head: blocks: Input should be less than or equal to 1000",
        ),
        ({"head": {"architecture": "UNet", "depth": 40}}, "head: depth: Input should be less than or equal to 12"),
        ({"batch": 10**12}, "batch: Input should be less than or equal to 65536"),
        ({"steps": 10**12, "epochs": None}, "steps: Input should be less than or equal to 1000000000"),
        ({"lr": -1}, "lr: Input should be greater than 0"),
        ({"epochs": 3}, "either epochs or steps"),
        ({"data": {"crop": 64, "size": 32}}, "size 32 is smaller than crop 64"),
        ({"data": {"crop": 64, "train": "1:0"}}, "LO:HI"),
        ({"mode": "both"}, "mode"),
        ({"head": {"architecture": "ResnetGenerator", "norm": "batch"}}, "norm: Input should be 'instance' or 'pixel'"),
        ({"head": {"architecture": "ResnetGenerator", "blocks": 0}}, "blocks: Input should be greater than 0"),
        ({"head": {"architecture": "UNet", "width": "wide"}}, "width: Input should be a valid integer"),
    ],
)
def test_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        make_recipe({**PLAIN, **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_what_the_head_does_not_take() -> None:
    with pytest.raises(RecipeError, match=r"head: unknown key widht; did you mean width\?"):
        make_recipe({**PLAIN, "head": {"architecture": "UNet", "widht": 4}})
    without = {key: value for key, value in PLAIN.items() if key != "mode"}
    with pytest.raises(RecipeError, match="mode is missing: paired, mmd, unpaired or contrastive; is mod meant"):
        make_recipe({**without, "mod": "paired"})


def test_refuses_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        read_recipe(tmp_path / "gone.yaml")
    for text in ("a: [", "just words", ""):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(RecipeError, match=r"bad\.yaml"):
            read_recipe(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"bad\.yaml"):
        read_recipe(tmp_path / "bad.yaml")


def test_changes_a_recipe() -> None:
    plain = make_recipe(PLAIN)
    changed = change_recipe(plain, {"lr": 1e-3, "data.train": "0:0.3", "head": {"architecture": "EsaGenerator"}})
    assert (changed.lr, changed.data.train, changed.head.architecture) == (1e-3, "0:0.3", "EsaGenerator")
    assert changed.data.crop == plain.data.crop
    with pytest.raises(RecipeError, match="LO:HI"):
        change_recipe(plain, {"data.train": "most"})
    with pytest.raises(RecipeError, match="unknown key cropp; did you mean crop"):
        change_recipe(plain, {"data.cropp": 32})
    with pytest.raises(RecipeError, match="lr has no parts"):
        change_recipe(plain, {"lr.start": 1})


@pytest.mark.parametrize("width", [100_000, 2**20])
def test_a_head_that_no_memory_holds_is_refused_before_it_is_built(width: int) -> None:
    head = make_recipe({**PLAIN, "head": {"architecture": "UNet", "width": width}}).head
    with pytest.raises(RecipeError, match=r"head: its weights alone take [\d,]+ GB, and this machine has \d+ GB"):
        plan_head(head)
    assert plan_head(make_recipe(PLAIN).head).multiple


def test_what_a_head_refuses_is_one_line() -> None:
    recipe = make_recipe({**PLAIN, "head": {"architecture": "GridHead", "width": 6}})
    with pytest.raises(RecipeError, match=r"^head: width 6 is no multiple of 4$"):
        plan_head(recipe.head)
