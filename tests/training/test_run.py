import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from undistill.base.errors import Failure, UsageError
from undistill.dataset.samples import DataError, ImageFolders
from undistill.dataset.shard import Pairs
from undistill.heads import Head
from undistill.images import write_grid
from undistill.training import checkpoint, embedding, loop, mmd, place
from undistill.training.method import Method, train_step
from undistill.training.recipe import Recipe, RecipeError, dump_recipe, make_recipe, read_recipe
from undistill.training.run import train, validate_run

Folders = Callable[..., Path]


OF_MODE: dict[str, dict[str, Any]] = {
    "paired": {},
    "mmd": {"sides": [64]},
    "mmd without pairs": {
        "mode": "mmd",
        "anchor": "student",
        "view": 32,
        "sides": [64],
        "neutral": 1,
        "keep": "last",
        "head": {"architecture": "GridHead", "width": 4},
    },
    "unpaired": {"discriminator_width": 4, "pool": 4},
    "contrastive": {"discriminator_width": 4, "pool": 4},
}
OLD_NAMES = {"matched": "mmd"}


def settings(mode: str, **changes: Any) -> dict[str, Any]:
    return {
        "mode": mode,
        "head": {"architecture": "ResnetGenerator", "width": 4, "blocks": 1},
        "data": {"crop": 64, "train": "0:0.7", "val": "0.7:1", "gamma": 0.1},
        "seed": 5,
        "batch": 2,
        "steps": 12,
        "lr": 1e-3,
        "log_every": 2,
        "save_every": 3,
        "sample_every": 6,
        "validate_every": 4,
        **OF_MODE[OLD_NAMES.get(mode, mode)],
        **changes,
    }


def recipe(mode: str, **changes: Any) -> Recipe:
    return make_recipe(settings(mode, **changes))


@pytest.fixture
def student(image_folder: Folders) -> Path:
    return image_folder("student", 12)


@pytest.fixture
def teacher(image_folder: Folders) -> Path:
    return image_folder("teacher", 12, seed=1)


@pytest.mark.parametrize("mode", OF_MODE)
def test_a_run_ends_with_its_files_and_a_head(mode: str, student: Path, teacher: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(recipe(mode), ImageFolders([student], [teacher]), run, device="cpu")
    assert (result.step, result.ended, result.head) == (12, "done", run / "head")
    names = {path.name for path in run.iterdir() if not path.name.startswith("events")}
    assert names == {
        "recipe.yaml", "data.json", "metrics.csv", "samples", "last.safetensors", "best.safetensors", "head"
    }  # fmt: skip
    assert any(path.name.startswith("events") for path in run.iterdir())
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["0000006.png", "0000012.png"]
    assert {path.name for path in (run / "head").iterdir()} == {
        "config.json", "model.safetensors", "README.md", "metrics.json"
    }  # fmt: skip
    Head.from_pretrained(run / "head")
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10, 12]
    assert [bool(row["val_loss"]) for row in rows] == [False, True, False, True, False, True]
    card = (run / "head" / "README.md").read_text()
    count = json.loads((run / "data.json").read_text())["student"]["images"]
    assert f"{count} student" in card


@pytest.mark.parametrize("mode", OF_MODE)
def test_stopped_or_killed_and_gone_on_equals_straight_through(
    mode: str, student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, changes = ImageFolders([student], [teacher]), {"accumulate": 2, "batch": 1, "steps": 9}
    train(recipe(mode, **changes), source, tmp_path / "straight", device="cpu")
    for steps in (1, 5, None):
        train(recipe(mode, **changes), source, tmp_path / "pieces", max_steps=steps, device="cpu")

    def killed_at_8(method: Method, batches: Any, step: int) -> Any:
        if step == 8:  # logged and validated, but last saved at 6
            raise KilledError
        return train_step(method, batches, step)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", killed_at_8)
        with pytest.raises(KilledError):
            train(recipe(mode, **changes), source, tmp_path / "killed", device="cpu")
    assert checkpoint.load(tmp_path / "killed" / "last.safetensors")["progress"]["step"] == 6
    train(recipe(mode, **changes), source, tmp_path / "killed", device="cpu")

    for name in ("last.safetensors", "best.safetensors", "head/model.safetensors", "head/metrics.json"):
        for run in ("pieces", "killed"):
            assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / run / name).read_bytes()
    assert (tmp_path / "straight" / "metrics.csv").read_text() == (tmp_path / "killed" / "metrics.csv").read_text()


class KilledError(BaseException):
    """As sudden as a kill, for what is on the disk."""


@pytest.mark.parametrize("mode", OF_MODE)
def test_pairs_stopped_and_gone_on_with_loader_processes(mode: str, pairs_folder: Folders, tmp_path: Path) -> None:
    source = Pairs(pairs_folder("pairs", 16))
    changes = {"steps": 5, "data": {"crop": 64, "train": "0:0.7", "val": "0.7:1", "workers": 1}}
    train(recipe(mode, **changes), source, tmp_path / "straight", device="cpu")
    for steps in (2, None):
        train(recipe(mode, **changes), source, tmp_path / "pieces", max_steps=steps, device="cpu")
    for name in ("last.safetensors", "head/model.safetensors", "data.json"):
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "pieces" / name).read_bytes()
    inventory = json.loads((tmp_path / "straight" / "data.json").read_text())
    assert inventory["pairs"] == {"spec": source.description.spec, "prompts": source.description.prompts}
    assert inventory["student"]["images"] == inventory["teacher"]["images"]
    other = Pairs(pairs_folder("other", 16, seed=1))  # the same ids
    with pytest.raises(UsageError, match="other images"):
        train(recipe(mode, **changes), other, tmp_path / "pieces", device="cpu")


@pytest.mark.parametrize(("number", "why"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_an_interrupt_saves_and_says_how_to_go_on(
    number: signal.Signals, why: str, student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = place.save

    def interrupted_at_4(method: Any, state: dict[str, Any], path: Path) -> None:
        if state["step"] == 4:  # at its validation, long before the next checkpoint is due
            os.kill(os.getpid(), number)
        save(method, state, path)

    monkeypatch.setattr(loop, "save", interrupted_at_4)
    result = train(recipe("paired", save_every=100), ImageFolders([student], [teacher]), tmp_path / "run", device="cpu")
    assert (result.step, result.ended, result.head) == (4, why, None)
    monkeypatch.undo()
    assert (
        train(recipe("paired", save_every=100), ImageFolders([student], [teacher]), tmp_path / "run", device="cpu").step
        == 12
    )


def test_an_interrupt_in_the_last_step_ends_what_comes_after_it_too(
    student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, images = write_grid, ImageFolders([student], [teacher])

    def interrupted(rows: Any, path: Path) -> None:
        if path.stem == f"{12:07d}":
            os.kill(os.getpid(), signal.SIGINT)
        draw(rows, path)

    monkeypatch.setattr(loop, "write_grid", interrupted)
    result = train(recipe("paired"), images, tmp_path / "run", device="cpu")
    assert (result.step, result.ended, result.head) == (12, "interrupted", None)
    again = train(recipe("paired"), images, tmp_path / "run", device="cpu")
    assert (again.step, again.ended, again.head) == (12, "done", tmp_path / "run" / "head")


@pytest.mark.parametrize(("steps", "kept", "message"), [
    (1, 0, "step 1: weights of G are not finite; .* was not written yet"),
    (4, 0, "step 2: loss_structure is not finite; .* was not written yet"),
    (6, 3, "step 5: loss_structure is not finite; .* is that of step 3"),
])  # fmt: skip
def test_a_run_that_diverges_ends_before_it_saves(
    steps: int, kept: int, message: str, student: Path, teacher: Path, tmp_path: Path
) -> None:
    source, run = ImageFolders([student], [teacher]), tmp_path / "run"
    made = recipe("paired", lr="inf", log_every=100, save_every=100, validate_every=100)
    if kept:
        finite = made.model_copy(update={"lr": 1e-3})
        train(finite, source, run, max_steps=kept, device="cpu")
        (run / "recipe.yaml").write_text(dump_recipe(made))
        before = (run / "last.safetensors").read_bytes()
    with pytest.raises(Failure, match=message) as error:
        train(made, source, run, max_steps=steps, device="cpu")
    assert "\n" not in str(error.value)
    assert (run / "last.safetensors").exists() == bool(kept)
    if kept:
        assert (run / "last.safetensors").read_bytes() == before
    assert not (run / "best.safetensors").exists()
    assert (run / "head").exists() == bool(kept)  # that of the step before


def test_what_is_not_a_number_is_never_the_best(
    student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([float("nan"), 3.0, 2.0])
    monkeypatch.setattr(loop, "validation_figures", lambda *_: {"val_loss": next(found)})
    source, run = ImageFolders([student], [teacher]), tmp_path / "run"
    train(recipe("paired"), source, run, max_steps=4, device="cpu")
    assert not (run / "best.safetensors").exists()
    train(recipe("paired"), source, run, device="cpu")
    assert json.loads((run / "head" / "metrics.json").read_text())["val_loss"] == 2.0


def test_embeddings_are_fitted_once(
    student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, run, fits = ImageFolders([student], [teacher]), tmp_path / "run", list[int]()

    def counted(*given: Any, **named: Any) -> None:
        fits.append(1)
        embedding.fit_embeddings(*given, **named)

    monkeypatch.setattr(mmd, "fit_embeddings", counted)
    train(recipe("mmd"), source, run, max_steps=6, device="cpu")
    train(recipe("mmd"), source, run, max_steps=8, device="cpu")
    validate_run(recipe("mmd"), source, run, device="cpu")
    assert len(fits) == 1
    # As a run was left by the version that called it matched: without what its moving means are made of.
    state = checkpoint.load(run / "last.safetensors")
    state["extra"] = {"moved": [saved["moved"] for saved in state["extra"]["mmd"]]}
    checkpoint.save(run / "last.safetensors", state)
    (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text().replace("mode: mmd", "mode: matched"))
    assert train(recipe("matched"), source, run, device="cpu").ended == "done"
    assert len(fits) == 2
    assert read_recipe(run / "recipe.yaml").mode == "mmd"


@pytest.mark.parametrize("mode", OF_MODE)
def test_checkpoints_keep_their_layout(mode: str, student: Path, teacher: Path, tmp_path: Path) -> None:
    """That of the first version: its runs go on."""
    networks, averages, optimizers, extra = {
        "paired": ("G", "G", "generator", ""),
        "mmd": ("G", "G", "generator", "mmd"),
        "mmd without pairs": ("G", "G", "generator", "mmd"),
        "unpaired": ("G F D_Y D_X", "G F", "generators discriminators", "pools"),
        "contrastive": ("G D P", "G", "generator discriminator", "pool"),
    }[mode]
    train(recipe(mode), ImageFolders([student], [teacher]), tmp_path / "run", max_steps=1, device="cpu")
    state = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert list(state) == ["progress", "networks", "averages", "optimizers", "extra"]
    assert state["progress"] == {"step": 1, "best": None, "best_step": 0, "stopped": False}
    for part, names in (("networks", networks), ("averages", averages), ("optimizers", optimizers), ("extra", extra)):
        assert list(state[part]) == names.split(), part


def test_too_little_memory_is_one_line(
    student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("undistill.training.run.fit", full)
    with pytest.raises(Failure, match="too little memory for batches of 2"):
        train(recipe("paired"), ImageFolders([student], [teacher]), tmp_path / "run", device="cpu")


def test_stops_early_on_the_validation_loss(student: Path, teacher: Path, tmp_path: Path) -> None:
    hopeless = recipe("paired", lr=1e-12, ema=0, patience=2, steps=None, epochs=50, validate_every=None)
    result = train(hopeless, ImageFolders([student], [teacher]), tmp_path / "run", device="cpu")
    per_epoch = -(-json.loads((tmp_path / "run" / "data.json").read_text())["student"]["images"] // 2)
    assert result.ended == "early stop"
    assert result.step < 10 * per_epoch
    again = train(hopeless, ImageFolders([student], [teacher]), tmp_path / "run", device="cpu")
    assert (again.ended, again.step) == ("early stop", result.step)


def test_refuses_to_go_on_with_something_else(student: Path, teacher: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe("paired"), ImageFolders([student], [teacher]), run, max_steps=2, device="cpu")
    with pytest.raises(UsageError, match=r"another recipe \(lr differ"):
        train(recipe("paired", lr=2e-3), ImageFolders([student], [teacher]), run, device="cpu")
    (student / "012.png").write_bytes((student / "000.png").read_bytes())
    (teacher / "012.png").write_bytes((student / "000.png").read_bytes())
    with pytest.raises(UsageError, match="other images"):
        train(recipe("paired"), ImageFolders([student], [teacher]), run, device="cpu")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="something else than a run"):
        train(recipe("paired"), ImageFolders([student], [teacher]), tmp_path / "mine", device="cpu")


def test_refuses_a_damaged_checkpoint(student: Path, teacher: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe("paired"), ImageFolders([student], [teacher]), run, max_steps=2, device="cpu")
    whole = checkpoint.load(run / "last.safetensors")

    def refused() -> None:
        with pytest.raises(UsageError, match="can't be read"):
            train(recipe("paired"), ImageFolders([student], [teacher]), run, device="cpu")

    broken: list[Any] = [
        {key: value for key, value in whole["progress"].items() if key != "stopped"},  # as a flipped bit left it
        {**whole["progress"], "step": -1},
        {**whole["progress"], "best": "low"},
        {**whole["progress"], "stopped": None},
        [],
    ]
    for progress in broken:
        checkpoint.save(run / "last.safetensors", {**whole, "progress": progress})
        refused()
    checkpoint.save(run / "last.safetensors", {**whole, "networks": []})
    refused()
    (run / "last.safetensors").write_bytes(b"half")
    refused()


def test_refuses_images_that_do_not_fit(student: Path, teacher: Path, image_folder: Folders, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="smaller than the crop of 128 px"):
        train(
            recipe("unpaired", data={"crop": 128, "train": "0:0.7", "val": "0.7:1"}),
            ImageFolders([student], [teacher]),
            tmp_path / "a",
        )
    with pytest.raises(RecipeError, match="multiple of 4"):
        train(
            recipe("unpaired", data={"crop": 66, "train": "0:0.7", "val": "0.7:1"}),
            ImageFolders([student], [teacher]),
            tmp_path / "b",
        )
    strangers = image_folder("strangers", 0)
    for number in range(8):
        (strangers / f"other{number}.png").write_bytes((student / "000.png").read_bytes())
    with pytest.raises(DataError, match="share no file name"):
        train(recipe("paired"), ImageFolders([student], [strangers]), tmp_path / "c")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(workers: int, student: Path, teacher: Path, tmp_path: Path) -> None:
    for path in student.iterdir():
        path.write_bytes(path.read_bytes()[:200])
    data = {"crop": 64, "train": "0:0.7", "val": "0.7:1", "workers": workers}
    with pytest.raises(Failure, match=r"student.*is broken") as error:
        train(recipe("unpaired", data=data), ImageFolders([student], [teacher]), tmp_path / "run", device="cpu")
    assert "\n" not in str(error.value)


def test_pairs_of_unequal_size_are_refused(image_folder: Folders, student: Path, tmp_path: Path) -> None:
    larger = image_folder("larger", 12, size=(160, 144))
    with pytest.raises(DataError, match=r"80 x 72 px and its pair .* 160 x 144"):
        train(recipe("paired"), ImageFolders([student], [larger]), tmp_path / "run", device="cpu")
    resized = recipe("paired", data={"crop": 64, "size": 64, "train": "0:0.7", "val": "0.7:1"})
    assert train(resized, ImageFolders([student], [larger]), tmp_path / "run", max_steps=1, device="cpu").step == 1


@pytest.mark.parametrize("mode", OF_MODE)
def test_a_run_starts_from_anothers_best(mode: str, student: Path, teacher: Path, tmp_path: Path) -> None:
    source, first = ImageFolders([student], [teacher]), tmp_path / "first"
    train(recipe(mode, steps=4), source, first, device="cpu")
    data = {"crop": 68, "train": "0:0.7", "val": "0.7:1"}
    second = recipe(mode, data=data, start=str(first), lr=1e-12, ema=0, steps=1)
    train(second, source, tmp_path / "second", device="cpu")
    best, begun = (checkpoint.load(run / "best.safetensors") for run in (first, tmp_path / "second"))
    for name, network in begun["networks"].items():
        for key, weight in (best["averages"].get(name) or best["networks"][name]).items():
            assert torch.allclose(network[key], weight, atol=1e-6)
    with pytest.raises(UsageError, match="holds no run"):
        train(recipe(mode, start=str(tmp_path / "gone")), source, tmp_path / "third", device="cpu")
    wider = {"architecture": "ResnetGenerator", "width": 8, "blocks": 1}
    with pytest.raises(UsageError, match="other networks"):
        train(recipe(mode, head=wider, start=str(first)), source, tmp_path / "third", device="cpu")
