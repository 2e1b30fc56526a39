import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.conftest import Run
from tests.pairs.test_create import TINY, draw
from undistill.base.engines import local
from undistill.dataset.shard import Pairs, shard_path
from undistill.images import decode_rgb
from undistill.pairs.generator import Generator


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    lines = (f'{{"id": "{i}", "prompt": "a portrait of {"abcde"[i]}", "seed": {i}}}\n' for i in range(5))
    file.write_text("".join(lines))
    return file


@pytest.fixture
def stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From its call on, a worker is this process: another imports diffusers first, which takes longer than the rest."""
    threads = torch.get_num_threads()

    def stay() -> None:
        torch.set_num_threads(1)  # as a worker's
        monkeypatch.setattr(local, "in_processes", lambda workers: local.in_process)

    yield stay
    torch.set_num_threads(threads)


@pytest.mark.e2e
def test_creates_verifies_and_repairs(
    miniature: Path, prompts: Path, tmp_path: Path, undistill: Run, stays: Callable[[], None]
) -> None:
    out = tmp_path / "pairs"
    arguments = ("pairs", "create", "--pair", miniature, "--prompts", prompts, "-o", out, "--limit", 4)
    settings = ("--shard-size", 2, "--batch", 2, "--workers", 1, "--device", "cpu")
    code, said, errors = undistill(*arguments, *settings)
    assert not code, errors
    assert said == f"4 pairs of miniature, 0 done before -> {out}\n"
    assert [row.prompt for row in Pairs(out)] == [f"a portrait of {name}" for name in "abcd"]
    assert len({row.teacher for row in Pairs(out)} | {row.student for row in Pairs(out)}) == 8
    assert undistill(*arguments, *settings)[1] == f"0 pairs of miniature, 4 done before -> {out}\n"
    assert undistill("--quiet", *arguments, *settings) == (None, "", "")
    assert undistill("pairs", "verify", out)[1] == f"4 pairs in 2 shards, all whole: {out}\n"
    # What a worker has drawn, this process draws the same; what several have: tests/pairs/test_create.py.
    before = shard_path(out, 1).read_bytes()
    shard_path(out, 1).write_bytes(before[:-1000] + b"?" + before[-999:])
    code, _, errors = undistill("pairs", "verify", out)
    assert code == 1
    assert "shard-000001.parquet is broken" in errors
    assert errors.endswith(f"undistill: 1 of 2 shards of {out} are broken or missing: --repair draws them again\n")
    stays()
    code, said, errors = undistill("pairs", "verify", out, "--repair", "--workers", 1, "--device", "cpu")
    assert not code, errors
    assert said == f"1 of 2 shards of {out} drawn again, all whole now\n"
    assert shard_path(out, 1).read_bytes() == before
    described = (out / "dataset.json").read_bytes()
    (out / "dataset.json").unlink()
    code, _, errors = undistill("pairs", "verify", out)
    assert code == 2
    assert errors.endswith(f"; `undistill pairs recover {out}` makes it anew from the shards\n")
    code, said, errors = undistill("pairs", "recover", out, "--pair", miniature, "--batch", 2)
    assert not code, errors
    assert said.startswith(f"{out}: dataset.json made anew: 4 pairs of miniature in 2 shards; ")
    assert (out / "dataset.json").read_bytes() == described


def test_recover_says_for_which_pair_it_takes_it(tmp_path: Path, undistill: Run) -> None:
    out, mine = tmp_path / "pairs", tmp_path / "mine.yaml"
    spec = TINY.model_copy(update={"name": "mine", "head": None})
    mine.write_text(json.dumps(spec.model_dump(mode="json", exclude_defaults=True)))
    draw(out, spec=spec)
    before = (out / "dataset.json").read_bytes()
    (out / "dataset.json").unlink()
    assert "pairs of tiny (taken for tiny: if it is another, delete" in undistill("pairs", "recover", out)[1]
    (out / "dataset.json").unlink()
    assert "pairs of mine in" in undistill("pairs", "recover", out, "--pair", mine)[1]
    assert (out / "dataset.json").read_bytes() == before


def test_refuses_in_one_line(
    miniature: Path, prompts: Path, tmp_path: Path, undistill: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def refuses(words: str, *arguments: object) -> None:
        code, _, errors = undistill("pairs", *arguments)
        assert code == 2
        assert errors.startswith("undistill: ")
        assert len(errors.splitlines()) == 1
        assert words in errors

    refuses("--prompts", "create", "-o", out)
    refuses("No such file", "create", "--prompts", tmp_path / "gone.jsonl", "-o", out)
    refuses("is a file; -o takes a folder", "create", "--prompts", prompts, "-o", prompts)
    refuses("no pair 'flux2'", "create", "--prompts", prompts, "--pair", "flux2", "-o", out)
    refuses(
        "device abacus can't be used here",
        "create", "--prompts", prompts, "--pair", miniature, "--device", "abacus", "-o", out,
    )  # fmt: skip
    refuses("--address goes with --engine ray", "create", "--prompts", prompts, "--address", "auto", "-o", out)
    refuses(
        "no Ray cluster at 127.0.0.1:1: Connection refused",
        "create", "--prompts", prompts, "--pair", miniature, "--engine", "ray", "--address", "127.0.0.1:1", "-o", out,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", None)
    refuses("needs Ray: pip install 'undistill[ray]'", "create", "--prompts", prompts, "--engine", "ray", "-o", out)
    refuses("holds something else", "create", "--prompts", prompts, "--pair", miniature, "-o", tmp_path)
    refuses("is no pairs data set", "verify", tmp_path)
    refuses("is no pairs data set", "verify", out)
    prompts.write_text("{}\n")
    refuses("line 1: id: Field required", "create", "--prompts", prompts, "-o", out)
    assert not out.exists()


def test_plans_without_weights_or_network(undistill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def dial(*_: object) -> None:
        raise AssertionError("a plan needs no network")

    monkeypatch.setattr(socket.socket, "connect", dial)
    code, said, errors = undistill("pairs", "plan", "--pair", "sdxl-turbo", "--count", 1000)
    assert not code, errors
    assert not errors
    assert "stabilityai/sdxl-turbo" in said
    assert "hours for 1,000" in said
    code, _, errors = undistill("pairs", "plan", "--pair", "gone")
    assert code == 2
    assert errors.startswith("undistill: no pair 'gone'")


def test_an_offload_changes_no_image(
    miniature: Path, prompts: Path, tmp_path: Path, undistill: Run, stays: Callable[[], None]
) -> None:
    stays()
    arguments = ("pairs", "create", "--pair", miniature, "--prompts", prompts, "--device", "cpu", "--batch", 1)
    code, _, errors = undistill(*arguments, "--limit", 1, "--offload", "group", "-o", tmp_path / "pairs")
    assert not code, errors
    drawn = decode_rgb(Pairs(tmp_path / "pairs").image(0, "student"))
    assert np.abs(drawn.astype(int) - Generator(miniature, "cpu").student(["a portrait of a"], [0])[0]).max() <= 1
    code, _, errors = undistill(*arguments, "--offload", "all", "-o", tmp_path / "all")
    assert code == 2
    assert "--offload" in errors
