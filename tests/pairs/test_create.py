import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.pairs.painter import Painter
from undistill.base.engines import Engine
from undistill.base.engines.local import in_process, in_processes
from undistill.base.errors import Failure, UsageError
from undistill.base.lock import locked
from undistill.dataset.shard import Pairs, shard_path
from undistill.pairs.create import DrawJob, Timing, create, draw_shard
from undistill.pairs.spec import PairSpec, read_spec
from undistill.pairs.verify import repair, verify
from undistill.prompts import Prompt, as_lines, numbered, read_prompts

TINY = read_spec("tiny")
PROMPTS = numbered([f"A portrait of {name}" for name in "abcdefg"], 5)


def draw(
    out: Path,
    prompts: list[Prompt] = PROMPTS,
    spec: PairSpec = TINY,
    shard_size: int = 3,
    batch: int = 2,
    engine: Engine = in_process,
) -> tuple[int, int]:
    return create(prompts, out, spec, partial(Painter, spec), shard_size, batch, engine)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As workers have: a worker's process takes seconds to start, so most tests draw in this one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "timings.csv"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """7 pairs in shards of 3, in batches of 2."""
    out = tmp_path_factory.mktemp("drawn") / "pairs"
    assert draw(out, engine=in_processes(1)) == (7, 0)
    return out


@pytest.fixture
def pairs(drawn: Path, tmp_path: Path) -> Path:
    """A copy of `drawn`."""
    out = tmp_path / "pairs"
    out.mkdir()
    for path in drawn.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


def test_prompts_and_both_images_land_in_shards(drawn: Path) -> None:
    assert sorted(path.name for path in drawn.iterdir()) == [
        "dataset.json", "prompts.jsonl", *(f"shard-{number:06d}.parquet" for number in range(3)), "timings.csv"
    ]  # fmt: skip
    rows = list(Pairs(drawn))
    assert [(row.id, row.prompt, row.seed) for row in rows] == [(p.id, p.prompt, p.seed) for p in PROMPTS]
    assert read_prompts(drawn / "prompts.jsonl") == PROMPTS
    painter = Painter(TINY)
    for row in rows:
        student, teacher = (np.asarray(Image.open(BytesIO(png))) for png in (row.student, row.teacher))
        expected = painter.student([row.prompt], [row.seed])[0]
        assert np.array_equal(student.flatten()[1:], expected.flatten()[1:])
        assert np.array_equal(teacher, 255 - student)
    # The first of each batch says how many threads drew it.
    firsts = [np.asarray(Image.open(BytesIO(rows[number].student)))[0, 0, 0] for number in (0, 2, 3, 5, 6)]
    assert firsts == [1] * 5


def test_timings_are_logged(drawn: Path) -> None:
    with (drawn / "timings.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["shard"], line["first"], line["images"]) for line in lines] == [
        ("shard-000000.parquet", "000000", "2"),
        ("shard-000000.parquet", "000002", "1"),
        ("shard-000001.parquet", "000003", "2"),
        ("shard-000001.parquet", "000005", "1"),
        ("shard-000002.parquet", "000006", "1"),
    ]
    assert all(0 <= float(line[side]) < 60 for line in lines for side in ("student_s", "teacher_s"))
    assert lines[0]["ended"].endswith("+00:00")


def test_a_shard_alone_is_the_same(drawn: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.parquet"
    told = list(draw_shard(DrawJob(path, PROMPTS[3:6], TINY.hash(), 2), Painter(TINY)))
    assert path.read_bytes() == shard_path(drawn, 1).read_bytes()
    assert [replace(timing, student_s=0, teacher_s=0) for timing in told] == [
        Timing("elsewhere.parquet", "000003", 2, 0, 0), Timing("elsewhere.parquet", "000005", 1, 0, 0)
    ]  # fmt: skip


def test_what_is_there_is_kept(pairs: Path, drawn: Path) -> None:
    shard_path(pairs, 1).unlink()
    (pairs / "prompts.jsonl").unlink()
    (pairs / ".shard-000001.parquet.part").write_bytes(b"half a shard")
    with (pairs / "timings.csv").open("a") as file:
        file.write("half a li")
    before = shard_path(pairs, 0).stat().st_mtime_ns
    assert draw(pairs) == (3, 4)
    assert contents(pairs) == contents(drawn)
    assert shard_path(pairs, 0).stat().st_mtime_ns == before
    with (pairs / "timings.csv").open() as file:
        assert {line["images"] for line in csv.DictReader(file)} == {"1", "2"}


def test_refuses_to_mix(pairs: Path, tmp_path: Path) -> None:
    before = contents(pairs)
    other = TINY.model_copy(update={"size": 32})
    mixes: list[tuple[str, Callable[[], object]]] = [
        (r"another pair spec \(tiny\): choose another folder", lambda: draw(pairs, spec=other)),
        (r"other prompts \(7 of them\)", lambda: draw(pairs, PROMPTS[:6])),
        ("--shard-size 3", lambda: draw(pairs, shard_size=4)),
        ("--batch 2", lambda: draw(pairs, batch=4)),
    ]
    for words, call in mixes:
        with pytest.raises(UsageError, match=words):
            call()
    # Name and head of a pair change nothing about its images.
    assert draw(pairs, spec=TINY.model_copy(update={"name": "toy", "head": "x"})) == (0, 7)
    assert contents(pairs) == before
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match="holds something else: choose a new folder"):
        draw(tmp_path)
    (pairs / "shard-000009.parquet").write_bytes(b"")
    with pytest.raises(UsageError, match=r"shard-000009\.parquet is none of the 3 shards"):
        draw(pairs)
    with locked(pairs), pytest.raises(UsageError, match="another undistill is at work"):
        draw(pairs)


@pytest.mark.parametrize("rows", [2, 3, 5, 6])
def test_more_prompts_go_on_as_if_made_at_once(rows: int, tmp_path: Path, drawn: Path) -> None:
    out = tmp_path / "pairs"
    draw(out, PROMPTS[:rows])
    kept = [shard_path(out, number).stat().st_mtime_ns for number in range(rows // 3)]
    assert draw(out) == (7 - 3 * len(kept), 3 * len(kept))
    assert contents(out) == contents(drawn)
    assert [shard_path(out, number).stat().st_mtime_ns for number in range(len(kept))] == kept


def test_more_prompts_after_a_kill(tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "pairs"
    draw(out, PROMPTS[:5])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("undistill.pairs.create.write_description", killed)
        with pytest.raises(KeyboardInterrupt):
            draw(out)
    assert list(verify(out)) == [1]  # what was there before, with a shard to draw
    assert draw(out) == (4, 3)
    assert contents(out) == contents(drawn)


def test_other_prompts_are_no_more_prompts(pairs: Path) -> None:
    before = contents(pairs)
    more = [*PROMPTS, *numbered(["A portrait of h"], 99)]
    for prompts in ([*PROMPTS[1:], *more[-2:]], [PROMPTS[1], PROMPTS[0], *more[2:]]):
        with pytest.raises(UsageError, match=r"other prompts \(7 of them\)"):
            draw(pairs, prompts)
    assert contents(pairs) == before


def test_a_failed_first_try_blocks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: Path) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("PAINTER", "has no weights")
    with pytest.raises(Failure, match="no weights here"):
        draw(out, PROMPTS[:2], batch=8, engine=in_processes(1))
    monkeypatch.setenv("PAINTER", "dies")
    with pytest.raises(Failure, match="a worker was killed, perhaps because memory ran out: take fewer --workers"):
        draw(out, PROMPTS[:2], batch=8, engine=in_processes(1))
    monkeypatch.delenv("PAINTER")
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "prompts.jsonl", "timings.csv"]
    draw(out)
    assert contents(out) == contents(drawn)


def test_a_disk_that_refuses_is_one_line(pairs: Path, tmp_path: Path) -> None:
    shard_path(pairs, 0).unlink()
    shard_path(pairs, 0).mkdir()  # what can't be replaced by a file
    with pytest.raises(Failure, match=r"shard-000000\.parquet: .+; with that put right, the same command goes on"):
        repair(pairs, [0], partial(Painter, TINY), in_process)
    assert not list(pairs.glob(".*"))


def test_verify_names_what_is_broken_and_repair_draws_it(pairs: Path, drawn: Path) -> None:
    assert verify(pairs) == {}
    data = bytearray(shard_path(pairs, 0).read_bytes())
    data[len(data) // 2] ^= 1
    shard_path(pairs, 0).write_bytes(data)
    shard_path(pairs, 1).unlink()
    shard_path(pairs, 2).write_bytes(shard_path(drawn, 0).read_bytes())
    broken = verify(pairs)
    assert list(broken) == [0, 1, 2]
    assert "shard-000000.parquet is broken: its checksum" in broken[0]
    assert "shard-000001.parquet is missing" in broken[1]
    assert "shard-000002.parquet holds other prompts than prompts.jsonl" in broken[2]
    repair(pairs, list(broken), partial(Painter, TINY), in_process)
    assert contents(pairs) == contents(drawn)


def test_verify_minds_prompts_and_description(pairs: Path) -> None:
    (pairs / "prompts.jsonl").write_bytes(as_lines(PROMPTS[:6]))
    with pytest.raises(Failure, match=r"prompts\.jsonl has changed: give the same `undistill pairs create` again"):
        verify(pairs)
    (pairs / "prompts.jsonl").unlink()
    with pytest.raises(Failure, match=r"prompts\.jsonl is missing"):
        verify(pairs)
    (pairs / "prompts.jsonl").write_bytes(as_lines(PROMPTS))
    text = (pairs / "dataset.json").read_text()
    (pairs / "dataset.json").write_text(text.replace('"size": 64', '"size": 65'))
    with pytest.raises(UsageError, match=r"dataset\.json: pair: size"):
        verify(pairs)
    (pairs / "dataset.json").write_text(text.replace('"size": 64', '"size": 32'))
    with pytest.raises(Failure, match=r"dataset\.json has changed"):
        verify(pairs)


@pytest.mark.parametrize("edit", [('"rows": 7', '"rows": 3'), ('"rows": 7', '"rows": 9'), ('"size": 64', '"size": 65')])
def test_the_same_command_puts_a_changed_description_back(edit: tuple[str, str], pairs: Path, drawn: Path) -> None:
    text = (pairs / "dataset.json").read_text()
    (pairs / "dataset.json").write_text(text.replace(*edit))
    assert (pairs / "dataset.json").read_text() != text
    assert draw(pairs) == (0, 7)
    assert contents(pairs) == contents(drawn)


# The command line with a painter in the place of the generator.
SCRIPT = (
    "import sys; import undistill.pairs.generator as generator; from tests.pairs.painter import Painter; "
    "generator.Generator = Painter; from undistill.cli import main; sys.argv[0] = 'undistill'; main()"
)


def start(tmp_path: Path, out: Path, workers: int, painter: str = "") -> "subprocess.Popen[str]":
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(as_lines(numbered([f"A portrait of {letter}" for letter in "abcdefghijklmn"], 0)))
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            SCRIPT,
            "pairs",
            "create",
            "--prompts",
            str(file),
            "--shard-size",
            "3",
            "--batch",
            "1",
            "--workers",
            str(workers),
            "--device",
            "cpu",
            "-o",
            str(out),
        ],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PAINTER": painter},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def soon(what: Callable[[], bool]) -> bool:
    for _ in range(6000):
        if what():
            return True
        time.sleep(0.05)
    return False


def group(session: int) -> list[int]:
    """Processes of the session that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(number) == session and state not in "ZX":
            found.append(int(path.parent.name))
    return found


@pytest.mark.e2e
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")
def test_killed_with_9_and_started_again_ends_the_same(tmp_path: Path) -> None:
    out, straight = tmp_path / "killed", tmp_path / "straight"
    killed = start(tmp_path, out, 2, "slow")
    assert soon(lambda: any(out.glob("shard-*.parquet")))
    assert len(group(killed.pid)) >= 3  # we, and two workers
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert soon(lambda: not group(killed.pid))
    assert len(list(out.glob("shard-*.parquet"))) < 4

    interrupted = start(tmp_path, out, 1, "slow")
    lines = (out / "timings.csv").read_text().count("\n")
    assert soon(lambda: (out / "timings.csv").read_text().count("\n") > lines)
    os.killpg(interrupted.pid, signal.SIGINT)  # as a terminal does
    _, errors = interrupted.communicate()
    assert len(list(out.glob("shard-*.parquet"))) < 5
    assert interrupted.returncode == 130
    assert errors.splitlines()[-1] == "undistill: interrupted; the same command goes on"
    assert "Traceback" not in errors
    assert soon(lambda: not group(interrupted.pid))

    done = start(tmp_path, out, 2)
    said, errors = done.communicate()
    assert done.returncode == 0, errors
    assert said.endswith(f"done before -> {out}\n")
    create(read_prompts(tmp_path / "prompts.jsonl"), straight, TINY, partial(Painter, TINY), 3, 1, in_process)
    assert contents(out) == contents(straight)
    assert len(contents(out)) == 2 + 5
