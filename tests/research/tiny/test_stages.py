"""All stages at a size for tests, from folders of portraits to pipelines that diffusers loads unchanged."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, FluxImg2ImgPipeline, FluxPipeline, FluxTransformer2DModel
from research.tiny import courses, stages
from research.tiny.recipe import read_stage
from research.tiny.train import main
from safetensors.torch import load_file

from tests.research.tiny.conftest import write_native, write_portraits
from undistill.base.errors import UsageError

SMALL: dict[str, dict[str, Any]] = {
    "autoencoder": {"widths": [16, 16, 16, 16], "batch": 4, "steps": 4},
    "flow": {"double": 1, "single": 1, "heads": 1, "text_width": 32, "text_layers": 1, "vocabulary": 700}
    | {"captions": 4, "views": 2, "batch": 4, "steps": 4},
    "guidance": {"captions": 4, "views": 2, "batch": 4, "steps": 4},
    "steps": {"captions": 2, "course_steps": 2, "batch": 4, "steps": 4},
    "distillation": {"captions": 2, "views": 1, "teacher_steps": 1, "double": 1, "single": 1, "batch": 4, "steps": 4},
    "realism": {"rank": 2, "captions": 2, "views": 1, "batch": 4, "steps": 4},
}
RECIPES = Path(__file__).parents[3] / "research" / "tiny" / "recipes"


def write_recipes(folder: Path, side: int = 64) -> Path:
    """The repository's, made small."""
    folder.mkdir()
    for stage, changes in SMALL.items():
        path = RECIPES / f"{stage}.yaml"
        recipe = yaml.safe_load((path if path.exists() else RECIPES / "128" / path.name).read_text())
        assert changes.keys() <= recipe.keys()
        recipe.pop("compiled", None)  # takes a minute
        recipe |= {
            **changes,
            "faces": {"side": side},
            "precision": "32-true",
            "save_every": 2,
            "sample_every": 4,
            "validate_every": 4,
        }
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    return write_recipes(tmp_path / "recipes")


@pytest.fixture(scope="module")
def portraits_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_portraits(tmp_path_factory.mktemp("portraits") / "portraits")


@pytest.fixture(scope="module")
def whole(portraits_like: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages, each in one go."""
    folder = tmp_path_factory.mktemp("whole")
    recipes = write_recipes(folder / "recipes")
    for stage in SMALL:
        main([portraits_like], stage, folder / "out", None, recipes, "cpu")
    return folder / "out"


def test_from_portraits_to_pipelines(whole: Path) -> None:
    out, made_in = whole, whole.parents[1]
    for stage in SMALL:
        assert (out / stage / "samples" / "0000004.png").exists()
    vae = AutoencoderKL.from_pretrained(out / "tiny-dev" / "vae")
    assert vae.config.scaling_factor > 0
    assert (
        load_file(out / "tiny-dev" / "transformer" / "diffusion_pytorch_model.safetensors")["proj_out.weight"].dtype
        == torch.float16
    )
    assert not [path for path in (out / "tiny-dev").rglob("*.json") if str(made_in) in path.read_text()]
    ask = {"prompt": "A professional portrait of Ada Okafor", "height": 64, "width": 64, "max_sequence_length": 24}
    dev = FluxPipeline.from_pretrained(out / "tiny-dev", torch_dtype=torch.float32)
    dev.set_progress_bar_config(disable=True)
    image = dev(**ask, num_inference_steps=2, guidance_scale=3.0).images[0]
    assert image.size == (64, 64)
    again = FluxImg2ImgPipeline.from_pretrained(out / "tiny-dev", torch_dtype=torch.float32)
    again.set_progress_bar_config(disable=True)
    assert again(**ask, image=image, strength=0.7, num_inference_steps=4, guidance_scale=3.0).images[0].size == (64, 64)
    schnell = FluxTransformer2DModel.from_pretrained(out / "tiny-schnell", subfolder="transformer")
    assert not schnell.config.guidance_embeds
    student = FluxPipeline.from_pipe(dev, transformer=schnell)
    assert student(**ask, num_inference_steps=1, guidance_scale=0.0).images[0].size == (64, 64)
    student.load_lora_weights(out / "tiny-realism-lora")  # what it does is seen on the shipped one: test_weights.py
    assert student.get_active_adapters() == ["default_0"]
    lora = load_file(out / "tiny-realism-lora" / "pytorch_lora_weights.safetensors")
    assert {weight.dtype for weight in lora.values()} == {torch.float16}
    assert {min(weight.shape) for weight in lora.values()} == {2}
    assert all(weight.any() for name, weight in lora.items() if "lora_A" in name)


@pytest.mark.e2e  # ten seconds and more
def test_a_stopped_stage_goes_on_to_the_same_weights(
    portraits_like: Path, whole: Path, recipes: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    for stage in SMALL:
        for stop in (2, None):
            main([portraits_like], stage, parts, stop, recipes, "cpu")
    for stage in SMALL:
        one, other = (load_file(out / stage / "last.safetensors") for out in (whole, parts))
        assert one.keys() == other.keys()
        assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_what_a_run_builds_on_must_stay(portraits_like: Path, recipes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main([portraits_like], "autoencoder", out, 1, recipes, "cpu")
    main([portraits_like], "flow", out, 1, recipes, "cpu")
    main([portraits_like], "autoencoder", out, 2, recipes, "cpu")
    with pytest.raises(UsageError, match="begun with other images or networks"):
        main([portraits_like], "flow", out, 2, recipes, "cpu")


def test_courses_are_drawn_on_after_a_kill(
    portraits_like: Path, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for stage in ("autoencoder", "flow", "guidance"):
        main([portraits_like], stage, out, 1, recipes, "cpu")
    monkeypatch.setattr(courses, "COURSE_CHUNK", 8)
    ends = courses._ends
    drawn: list[int] = []

    def one_then_killed(*arguments: Any) -> torch.Tensor:
        if drawn:
            raise KeyboardInterrupt
        drawn.append(1)
        return ends(*arguments)

    monkeypatch.setattr(courses, "_ends", one_then_killed)
    with pytest.raises(KeyboardInterrupt):
        main([portraits_like], "steps", out, 1, recipes, "cpu")
    first = out / "steps" / "courses-0000.safetensors"
    before = first.stat().st_mtime_ns
    monkeypatch.setattr(courses, "_ends", ends)
    main([portraits_like], "steps", out, 1, recipes, "cpu")
    assert first.stat().st_mtime_ns == before
    assert (out / "tiny-schnell" / "scheduler" / "scheduler_config.json").exists()


def test_the_side_belongs_to_the_recipe(portraits_like: Path, whole: Path, tmp_path: Path) -> None:
    """32 px, from two folders, the autoencoder and the flow from those of 64 px."""
    out, data = tmp_path / "out", [portraits_like, write_native(tmp_path / "native")]
    recipes = write_recipes(tmp_path / "recipes", side=32)
    for stage, start in (("autoencoder", "tiny-autoencoder"), ("flow", "tiny-flow")):
        path = recipes / f"{stage}.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"start": str(whole / start), "lr": 1e-9}))
        main(data, stage, out, 1, recipes, "cpu")
    for name in ("tiny-autoencoder", "tiny-flow/transformer"):
        begun, now = (load_file(o / name / "diffusion_pytorch_model.safetensors") for o in (whole, out))
        assert all(torch.allclose(begun[key], now[key], atol=1e-3) for key in begun)
    flow = FluxPipeline.from_pretrained(out / "tiny-flow", torch_dtype=torch.float32)
    flow.set_progress_bar_config(disable=True)
    assert flow.vae.config.sample_size == 32
    ask = {"prompt": "A portrait of a 40 year old man", "height": 32, "width": 32, "max_sequence_length": 24}
    assert flow(**ask, num_inference_steps=1).images[0].size == (32, 32)
    with pytest.raises(UsageError, match="is of 32 px, the recipe of 64 px"):
        main(data, "flow", out, 1, write_recipes(tmp_path / "64"), "cpu")


def test_an_autoencoder_starts_from_one_of_its_widths(portraits_like: Path, recipes: Path, tmp_path: Path) -> None:
    recipe = recipes / "autoencoder.yaml"
    text = recipe.read_text()
    recipe.write_text(f"{text}start: tiny-dev/vae\n")
    with pytest.raises(UsageError, match="holds no autoencoder of these widths"):
        main([portraits_like], "autoencoder", tmp_path / "out", 1, recipes, "cpu")
    recipe.write_text(f"{text}start: nowhere/at-all\n")
    with pytest.raises(UsageError, match="start: nowhere/at-all is no folder"):
        main([portraits_like], "autoencoder", tmp_path / "other", 1, recipes, "cpu")


def test_latents_may_have_other_channels_than_the_start(
    portraits_like: Path, whole: Path, recipes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for stage, changes in (
        ("autoencoder", {"start": str(whole / "tiny-autoencoder"), "latent_channels": 8, "halved": 0.5}),
        ("flow", {"start": str(whole / "tiny-flow")}),
    ):
        path = recipes / f"{stage}.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes | {"lr": 1e-9}))
        main([portraits_like], stage, out, 2, recipes, "cpu")
    halved = float((out / "autoencoder" / "metrics.csv").read_text().splitlines()[-1].split(",")[6])
    assert halved > 0
    begun, now = (load_file(o / "tiny-flow/transformer/diffusion_pytorch_model.safetensors") for o in (whole, out))
    assert now["x_embedder.weight"].shape[1] == 32
    same = [name for name in begun if name.startswith(("transformer_blocks.", "single_", "time_text_embed."))]
    assert same
    assert all(torch.allclose(begun[name], now[name], atol=1e-3) for name in same)
    main([portraits_like], "guidance", out, 1, recipes, "cpu")
    dev = FluxPipeline.from_pretrained(out / "tiny-dev", torch_dtype=torch.float32)
    dev.set_progress_bar_config(disable=True)
    ask = {"height": 64, "width": 64, "max_sequence_length": 24}
    assert dev("A portrait", **ask, num_inference_steps=1).images[0].size == (64, 64)


def test_latents_are_encoded_once(portraits_like: Path, recipes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for stage in ("autoencoder", "flow"):
        main([portraits_like], stage, out, 1, recipes, "cpu")
    kept = out / "flow" / "latents.safetensors"
    before = kept.stat().st_mtime_ns
    main([portraits_like], "flow", out, 2, recipes, "cpu")
    assert kept.stat().st_mtime_ns == before


def test_the_recipes_of_a_pair_are_of_one_side() -> None:
    for folder, side in ((RECIPES, 64), (RECIPES / "128", 128)):
        read = [read_stage(path) for path in folder.glob("*.yaml")]
        assert len(read) >= 4
        assert {recipe.faces.side for recipe in read} == {side}


def test_stages_come_in_their_order(
    portraits_like: Path, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stages._LEFT, "guidance", ("tiny-dev", None))  # as if none were shipped
    with pytest.raises(UsageError, match="train the stage flow first"):
        main([portraits_like], "guidance", tmp_path / "out", None, recipes, "cpu")
    with pytest.raises(UsageError, match="train the stage guidance first"):
        main([portraits_like], "steps", tmp_path / "out", None, recipes, "cpu")
    with pytest.raises(UsageError, match="no stage turbo: autoencoder, flow, guidance, steps, distillation"):
        main([portraits_like], "turbo", tmp_path / "out", None, recipes, "cpu")
    main([portraits_like], "autoencoder", tmp_path / "out", 1, recipes, "cpu")
    shutil.copy(recipes / "autoencoder.yaml", recipes / "old.yaml")
    (recipes / "autoencoder.yaml").write_text((recipes / "old.yaml").read_text().replace("kl:", "kll:"))
    with pytest.raises(UsageError, match="unknown key kll; did you mean kl"):
        main([portraits_like], "autoencoder", tmp_path / "out", 1, recipes, "cpu")
