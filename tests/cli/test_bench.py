import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from tests.cli.conftest import Run
from tests.conftest import strong
from undistill.bench import alone, run
from undistill.enhance.backends import table
from undistill.enhance.backends.table import fastest
from undistill.heads import Head, ResnetGenerator, UNet
from undistill.metrics.jackknife import Value


@pytest.fixture
def pair(miniature: Path, tmp_path: Path) -> Path:
    path = tmp_path / "pair.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(miniature.read_text()), "size": 64}))
    strong(UNet(width=4, depth=2)).save_pretrained(tmp_path / "a-head")
    return path


def test_times_a_pair_and_heads_and_writes_what_it_found(
    pair: Path, tmp_path: Path, undistill: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "load_head", lambda name: ResnetGenerator(width=4, blocks=1).eval())
    peak = Value(7.0, n=1)
    monkeypatch.setattr(run, "cpu_peaks", lambda name, sizes: dict.fromkeys(((s, "fp32") for s in sizes), peak))
    out = tmp_path / "out"
    head = tmp_path / "a-head"
    code, said, _ = undistill(
        *("bench", "--pair", pair, "--sizes", "64,32", "--heads", head, "--rounds", 1, "--device", "cpu", "-o", out),
        *("--format", "md"),
    )
    assert not code
    found = json.loads((out / "bench.json").read_text())
    assert list(found["cost"]) == list(found["heads"]) == list(found["limits"]) == ["32", "64"]
    assert list(found["cost"]["64"]) == ["student", "a-head", "teacher"]
    assert found["heads"]["64"]["a-head"]["fp32"]["peak_mb"]["value"] == 7.0
    assert found["settings"]["sizes"] == [32, 64]
    assert found["settings"]["machine"]["device"] == "cpu"
    assert "torch" in found["versions"]
    assert Image.open(out / "bench.png").size[0] > 500
    assert "| 64 | student, then `a-head` |" in said
    assert "- no CUDA graphs: needs a CUDA GPU" in said
    assert sorted(path.name for path in out.iterdir()) == ["bench.json", "bench.png"]


def test_backends_are_printed_and_written_where_a_folder_is_named(
    pair: Path, tmp_path: Path, undistill: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undistill.bench.backends.TIMED", ("torch", "contiguous", "onnx"))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    asked = ("bench", "--backends", "--sizes", 32, "--heads", tmp_path / "a-head", "--rounds", 6, "--format", "md")
    code, said, _ = undistill(*asked)
    assert not code
    assert "| 32 | a-head | contiguous |" in said
    assert "- a-head: auto takes torch, without a table of its own; this run says " in said
    assert "- backend onnx needs onnxscript: pip install 'undistill[onnx]'" in said
    assert undistill(*asked, "-o", tmp_path / "out")[0] is None
    found = json.loads((tmp_path / "out" / "backends.json").read_text())
    rows = found["backends"]["32"]["a-head"]
    assert rows["auto"] == rows[found["takes"]["32"]["a-head"]]
    assert rows["torch"]["times"]["value"] == 1.0
    assert found["auto"] == {"a-head": {"takes": "torch", "seconds": {}, "size": 512}}
    assert undistill("bench")[::2] == (2, "undistill: -o is missing: a folder for bench.json and bench.png\n")


def test_the_table_that_auto_goes_by_is_printed(pair: Path, undistill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: dict[str, list[float]] = {"torch": [0.002], "contiguous": [0.001]}
    monkeypatch.setattr("undistill.bench.backends.fastest", fastest)
    monkeypatch.setattr(table, "time_backends", lambda *_: timed)
    monkeypatch.setattr("undistill.bench.backends.time_backends", lambda *_: timed)
    head = pair.with_name("a-head")
    table.seconds_by_backend(Head.from_pretrained(head), torch.device("cpu"))
    asked = ("bench", "--backends", "--sizes", 32, "--heads", head, "--format", "md")
    kept = "- a-head: auto takes contiguous, by its table (one thread, 512 px: torch 2.00 ms, contiguous 1.00 ms); "
    assert f"{kept}this run says the same" in undistill(*asked)[1]
    timed["torch"] = [0.001]
    assert f"{kept}this run says torch at 32 px" in undistill(*asked)[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sizes", "64,big"], "--sizes '64,big': write whole numbers"),
        (["--sizes", ","], "write whole numbers"),
        (["--sizes", ""], "an argument is empty"),
        (["--sizes", "65"], "size 65: take multiples of 16"),
        (["--sizes", "0"], "size 0: take multiples of 16"),
        (["--sizes", "16000"], "to 8192 px"),
        (["--heads", "nobody"], "no head 'nobody'"),
        (["--heads", "tiny-best", "--heads", "all", "--pair", "nothing"], "no pair 'nothing'"),
        (["--device", "cuda:99"], "can't be used here"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], says: str, tmp_path: Path, undistill: Run) -> None:
    code, _, error = undistill("bench", "-o", tmp_path / "out", *arguments)
    assert code == 2
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_heads_of_one_name_and_a_file_for_a_folder_are_refused(tmp_path: Path, undistill: Run) -> None:
    strong(UNet(width=4, depth=2)).save_pretrained(tmp_path / "tiny-best")
    code, _, error = undistill("bench", "-o", tmp_path / "out", "--heads", "all", "--heads", tmp_path / "tiny-best")
    assert code == 2
    assert "has the name of another row, tiny-best" in error
    (tmp_path / "file").write_text("mine")
    assert undistill("bench", "-o", tmp_path / "file")[0] == 2
    assert (tmp_path / "file").read_text() == "mine"
