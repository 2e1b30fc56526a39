import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from tests.base.test_table import WIDTHS, check_figures, shown
from tests.training.test_run import settings
from undistill.base.errors import Failure, UsageError
from undistill.dataset.shard import Pairs
from undistill.training import sweep, trials, workers
from undistill.training.sweep import (
    SweepStudy,
    check_cells,
    open_sweep,
    read_sweep,
    results,
    tables,
    to_markdown,
    train_cells,
)
from undistill.training.workers import work_together

Folders = Callable[..., Path]
GRIDS = Path(__file__).parents[2] / "recipes"

SCRIPT = "import sys; from undistill.cli import main; sys.argv[0] = 'undistill'; main()"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", SCRIPT, *map(str, arguments)]


@pytest.fixture
def data(pairs_folder: Folders) -> Path:
    return pairs_folder("pairs", 16)


def write(folder: Path, **changes: Any) -> Path:
    """A sweep of two by two cells, and one of one."""
    (folder / "gan.yaml").write_text(yaml.safe_dump(settings("unpaired", **changes)))
    file = folder / "sweep.yaml"
    gan = {"recipe": "gan.yaml", "grid": {"cycle": [10, 2], "lr": [1e-3, 2e-3]}, "title": "Table 2"}
    file.write_text(
        yaml.safe_dump({"gan": gan, "esa": {"recipe": "gan.yaml", "grid": {"cycle": [5]}}}, sort_keys=False)
    )
    return file


def begin(
    file: Path, data: Path, out: Path, max_steps: int | None = 1
) -> tuple[list[SweepStudy], Pairs, Path, int | None]:
    studies, pairs = read_sweep(file), Pairs(data)
    open_sweep(studies, pairs, out, max_steps)
    return studies, pairs, out, max_steps


def cells(out: Path) -> list[dict[str, Any]]:
    return [cell for study in results(out)["studies"].values() for cell in study["cells"]]


def test_a_wrong_first_try_does_not_block_the_second(data: Path, tmp_path: Path) -> None:
    studies, pairs = read_sweep(write(tmp_path)), Pairs(data)
    check_cells(studies, pairs, "cpu")
    with pytest.raises(UsageError, match="device cuda:99 can't be used here"):
        check_cells(studies, pairs, "cuda:99")
    narrow = read_sweep(write(tmp_path, data={"crop": 64, "train": "0:0.7", "val": "0.8:0.8001"}))
    with pytest.raises(UsageError, match="no image"):
        check_cells(narrow, pairs, "cpu")


def test_the_papers_grids() -> None:
    for path in (GRIDS / "paper-sweep.yaml", GRIDS / "tiny" / "sweep.yaml"):
        gan, esa = read_sweep(path)
        assert len(gan.cells()) == 9
        assert gan.grid == {"cycle": [10, 5, 2], "lr": [1e-4, 2e-4, 3e-4]}
        assert (esa.grid, esa.recipe.lr) == ({"cycle": [10, 5, 2]}, 1e-4)
        assert esa.recipe.head.architecture == "EsaGenerator"


def test_two_at_work_do_every_cell_once_and_the_report_has_them(data: Path, tmp_path: Path) -> None:
    task = begin(write(tmp_path), data, tmp_path / "out")
    assert {cell["state"] for cell in cells(tmp_path / "out")} == {"waiting"}
    assert "| 10 | 0.001 | - | - | - | - |" in to_markdown(results(tmp_path / "out"))
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: train_cells(*task, "cpu", said.append), range(2))) == [None, None]
    assert len(said) == len({line.split(":")[0] for line in said}) == 5
    done = cells(tmp_path / "out")
    assert {(cell["state"], cell["step"]) for cell in done} == {("done", 1)}
    assert len({cell["loss"] for cell in done}) > 1
    table = to_markdown(results(tmp_path / "out"))
    assert table.startswith("Table 2\n\n| cycle | lr | steps | loss | SSIM | SSIM, cycle |\n")
    assert (
        len(re.findall(r"^\| 1?\d \| 0.00\d \| 1 \| \d\.\d{4} \| -?0\.\d{4} \| -?0\.\d{4} \|$", table, re.MULTILINE))
        == 4
    )
    assert train_cells(*task, "cpu", said.append) is None
    assert len(said) == 5
    recipe = yaml.safe_load((tmp_path / "out" / "gan" / "cycle=2,lr=0.002" / "recipe.yaml").read_text())
    assert (recipe["cycle"], recipe["lr"]) == (2, 2e-3)


def test_a_cell_that_was_left_is_taken_up_and_one_that_diverges_is_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = begin(write(tmp_path), data, tmp_path / "out")
    scores = {"val_loss": 1.0, "val_ssim": 0.9, "val_ssim_cycle": 0.8}
    monkeypatch.setattr(sweep, "validate_run", lambda *_, **__: scores)
    with monkeypatch.context() as patched:
        patched.setattr(sweep, "validate_run", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_cells(*task, "cpu", print)
    (left,) = (cell["cell"] for cell in cells(tmp_path / "out") if cell["state"] == "running")
    said: list[str] = []
    scores["val_loss"] = float("nan")

    def say(line: str) -> None:
        said.append(line)
        scores["val_loss"] = 1.0

    assert train_cells(*task, "cpu", say) is None
    assert said[0].startswith(f"gan {sweep.cell_name(left)}: ")
    states = {sweep.cell_name(cell["cell"]): cell["state"] for cell in cells(tmp_path / "out")}
    assert states.pop(sweep.cell_name(left)) == "diverged"
    assert set(states.values()) == {"done"}
    study = optuna.load_study(study_name="gan", storage=f"sqlite:///{tmp_path / 'out' / 'sweep.db'}")
    assert len(study.trials) == 4


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.e2e
def test_killed_with_9_leaves_its_cell_to_the_next(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    file = write(tmp_path, steps=10_000, save_every=1, validate_every=10_000)
    with subprocess.Popen(
        command("sweep", "run", file, "--data", data, "-o", out, "--max-steps", 9_999, "--device", "cpu"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as killed:
        until(lambda: any(out.glob("gan/*/last.safetensors")))
        studies, *_ = begin(file, data, out, 9_999)
        grid = trials.load(out, "gan", studies[0].grid)
        with trials.free_cell(grid, 4, out) as trial:
            assert trial is not None
            assert trial.number == 1
        killed.kill()
    with trials.free_cell(grid, 4, out) as first, trials.free_cell(grid, 4, out) as second:
        assert first is not None
        assert second is not None
        assert (first.number, second.number) == (0, 1)
    assert len(grid.trials) == 2


@pytest.mark.e2e
def test_workers_save_when_interrupted(data: Path, tmp_path: Path) -> None:
    task = begin(write(tmp_path, steps=10_000, save_every=10_000, validate_every=10_000), data, tmp_path / "out", None)
    runs = tmp_path / "out" / "gan"

    def interrupt() -> None:
        until(lambda: sum("\n2," in path.read_text() for path in runs.glob("*/metrics.csv")) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        interrupted = pool.submit(interrupt)
        assert work_together(task[0], data, *task[2:], "cpu", workers=2) == signal.SIGTERM
        interrupted.result()
    assert len(list(runs.glob("*/last.safetensors"))) == 2
    assert [cell["state"] for cell in cells(tmp_path / "out")].count("running") == 2


def test_an_error_of_a_worker_ends_the_sweep(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It ends before torch has anything to do: a forked process, which imports nothing anew, is enough.
    monkeypatch.setattr(workers, "get_context", lambda _: get_context("fork"))
    task = begin(write(tmp_path), data, tmp_path / "out")
    (tmp_path / "out" / "gan").write_text("in the way")
    with pytest.raises(Failure, match=r"gan: File exists; .* goes on"):
        work_together(task[0], data, *task[2:], "cpu", workers=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {}}, "grid: Dictionary should have at least 1 item"),
        ({"grid": {"cycle": []}}, "grid.cycle: List should have at least 1 item"),
        ({"gird": {"cycle": [1]}}, "unknown key gird; did you mean grid?"),
        ({"grid": {"cylce": [1]}}, "unknown key cylce; did you mean cycle?"),
        ({"set": {"data.crop": "wide"}}, "data.crop"),
        ({"recipe": "gone.yaml"}, "gone.yaml can't be read"),
        ({"grid": {"data.train": ["a/b"]}}, "grid.data.train.0"),
    ],
)
def test_refuses_files(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = write(tmp_path)
    study = {**yaml.safe_load(file.read_text())["gan"], **change}
    file.write_text(yaml.safe_dump({"gan": study}))
    with pytest.raises(UsageError) as error:
        read_sweep(file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_folders(data: Path, tmp_path: Path) -> None:
    file, out = write(tmp_path), tmp_path / "out"
    with pytest.raises(UsageError, match="holds no sweep"):
        results(out)
    begin(file, data, out)
    begin(file, data, out)
    with pytest.raises(UsageError, match=r"another sweep \(max_steps differ\)"):
        begin(file, data, out, 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="something else"):
        begin(file, data, tmp_path / "mine")
    file.write_text("just words")
    with pytest.raises(UsageError, match="names no study"):
        read_sweep(file)


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "", ".hidden", "two words"])
def test_a_study_lies_in_its_sweeps_folder(name: str, tmp_path: Path) -> None:
    file = write(tmp_path)
    file.write_text(yaml.safe_dump({name: yaml.safe_load(file.read_text())["gan"]}))
    with pytest.raises(UsageError, match="a study can't be called") as error:
        read_sweep(file)
    assert "\n" not in str(error.value)


def test_broken_files_of_a_sweep_are_one_line(data: Path, tmp_path: Path) -> None:
    file, out = write(tmp_path), tmp_path / "out"
    begin(file, data, out)
    begun, database = out / "sweep.json", out / "sweep.db"
    for broken in (b"{", b"\xff", b"[]", b"{}", b'{"studies": {"gan": {}}, "max_steps": 1}'):
        whole = begun.read_bytes()
        begun.write_bytes(broken)
        for ask in (lambda: results(out), lambda: begin(file, data, out)):
            with pytest.raises(UsageError, match=r"sweep\.json can't be read .*: choose a new folder") as error:
                ask()
            assert "\n" not in str(error.value)
        begun.write_bytes(whole)
    whole = database.read_bytes()
    for broken in (b"no database, but more than a hundred bytes" * 9, whole[:8000]):
        database.write_bytes(broken)
        for ask in (lambda: results(out), lambda: begin(file, data, out)):
            with pytest.raises(UsageError, match=r"sweep\.db is broken \(.*\): take it away") as error:
                ask()
            assert "\n" not in str(error.value)
    database.write_bytes(b"")
    with pytest.raises(UsageError, match=r"sweep\.db is broken \(it lacks the study gan\): take it away"):
        results(out)
    database.unlink()
    begin(file, data, out)
    assert {cell["state"] for cell in cells(out)} == {"waiting"}


def test_a_database_that_is_damaged_somewhere_is_one_line(data: Path, tmp_path: Path) -> None:
    """SQLite notices where it comes to the place, and we where a value is of another kind."""
    task = begin(write(tmp_path), data, tmp_path / "out")
    train_cells(*task, "cpu", lambda _: None)
    database = tmp_path / "out" / trials.DATABASE
    whole, refused = database.read_bytes(), []
    for start in range(0, len(whole), 4096):
        database.write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
        try:
            results(tmp_path / "out")
        except UsageError as error:
            refused.append(str(error))
    assert len(refused) > 5
    assert {line for line in refused if "\n" in line or f"{database} is broken (" not in line} == set()
    for change in ("trial_user_attributes set value_json = '[]'", "trials set state = 'x'"):
        database.write_bytes(whole)
        with closing(sqlite3.connect(database)) as base:
            base.execute(f"update {change}")
            base.commit()
        with pytest.raises(UsageError, match=r"sweep\.db is broken \(.*\): take it away"):
            results(tmp_path / "out")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_fits_the_terminal(width: int) -> None:
    done = {"step": 140_000, "loss": 0.12341, "ssim": 0.9876, "ssim_cycle": -0.6543}
    grid = {"data.train": "0:0.5", "head.architecture": "ResnetGenerator", "lr": 2e-4}
    found = {"studies": {"gan": {"title": "Table [2]", "cells": [{"cell": grid, **done}]}}}
    said = shown(partial(sweep.show, found), width)
    assert "Table [2]" in said
    ((_, table),) = tables(found)
    check_figures(table, width)


def test_the_report_is_written(data: Path, tmp_path: Path) -> None:
    begin(write(tmp_path), data, tmp_path / "out")
    found = results(tmp_path / "out")
    sweep.write_report(found, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == found


def test_a_cell_whose_loss_is_not_finite_does_not_end_the_sweep(data: Path, tmp_path: Path) -> None:
    file, said = tmp_path / "sweep.yaml", list[str]()
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(settings("paired", steps=2, validate_every=2)))
    file.write_text(yaml.safe_dump({"study": {"recipe": "a.yaml", "grid": {"lr": ["inf", 1e-3]}}}))
    assert train_cells(*begin(file, data, tmp_path / "out", None), "cpu", said.append) is None
    assert sorted(cell["state"] for cell in cells(tmp_path / "out")) == ["diverged", "done"]
    assert any("step 2: loss_structure is not finite" in line for line in said)


def test_a_sweep_of_an_older_version_goes_on(data: Path, tmp_path: Path) -> None:
    begin(write(tmp_path), data, tmp_path / "out")
    begun = json.loads((tmp_path / "out" / "sweep.json").read_text())
    for study in begun["studies"].values():
        del study["recipe"]["init"]
    (tmp_path / "out" / "sweep.json").write_text(json.dumps(begun))
    begin(write(tmp_path), data, tmp_path / "out")
