"""One cluster for all tests: it takes seconds to start. Each worker takes two more, so there are few."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.pairs.painter import Mortal, Painter
from tests.pairs.test_create import contents, soon
from undistill.base.engines import ray as engine
from undistill.base.engines.local import in_process
from undistill.base.engines.ray import on_ray
from undistill.base.errors import Failure, UsageError
from undistill.base.files import AnyPath, parse_path
from undistill.dataset.shard import shard_path
from undistill.enhance.change import Change
from undistill.enhance.files import enhance_files
from undistill.enhance.jobs import list_jobs
from undistill.enhance.shards import enhance_shards
from undistill.pairs.create import create
from undistill.pairs.spec import read_spec
from undistill.pairs.verify import verify
from undistill.prompts import as_lines, numbered

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytest.importorskip("moto.server", reason="needs moto[server]")

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("ray")]
TINY = read_spec("tiny")
PROMPTS = numbered([f"A portrait of {name}" for name in "abcdefg"], 5)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 server on 127.0.0.1; workers, too, find it by their environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="faces")
        yield "s3://faces"
    server.stop()


@pytest.fixture(scope="module", autouse=True)
def cluster(bucket: str) -> Iterator[str]:
    """The address of a cluster with room for two workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "3")  # workers are to have one thread all the same
        on_ray()  # sets what keeps Ray quiet
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one thread of this process draws: 7 pairs in shards of 3, in batches of 1."""
    out, threads = tmp_path_factory.mktemp("drawn") / "pairs", torch.get_num_threads()
    torch.set_num_threads(1)
    create(PROMPTS, out, TINY, partial(Painter, TINY), 3, 1, in_process)
    torch.set_num_threads(threads)
    return out


def draw(out: AnyPath, maker: Callable[[], Painter], workers: int = 2) -> tuple[int, int]:
    return create(PROMPTS, out, TINY, maker, 3, 1, on_ray(workers))


def test_a_worker_killed_half_way_changes_no_byte(tmp_path: Path, drawn: Path) -> None:
    tombs = tmp_path / "tombs"
    tombs.mkdir()
    assert draw(tmp_path / "out", partial(Mortal, TINY, tombs, 1)) == (7, 0)
    assert len(list(tombs.iterdir())) == 1
    assert contents(tmp_path / "out") == contents(drawn)
    assert (tmp_path / "out" / "timings.csv").read_text().count("\n") >= 1 + 7


def test_a_shard_that_kills_all_its_workers_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TRIES", 1)  # each takes seconds; that there are more, the test before has shown
    tombs, out = tmp_path / "tombs", tmp_path / "out"
    tombs.mkdir()
    with pytest.raises(Failure, match=r"^1 workers were killed, .* over .*out/shard-00000.\.parquet, perhaps"):
        draw(out, partial(Mortal, TINY, tombs, 99), workers=1)
    assert len(list(tombs.iterdir())) == 1
    assert not list(out.glob("*.parquet"))
    assert not list(out.glob(".*"))


def test_a_dead_driver_resumes_on_s3(tmp_path: Path, drawn: Path, bucket: str, cluster: str) -> None:
    out = parse_path(f"{bucket}/pairs")
    (tmp_path / "prompts.jsonl").write_bytes(as_lines(PROMPTS))
    script = (
        "import sys; import undistill.pairs.generator as generator; from tests.pairs.painter import Slow; "
        "generator.Generator = Slow; from undistill.cli import main; sys.argv[0] = 'undistill'; main()"
    )
    arguments = f"pairs create --prompts {tmp_path}/prompts.jsonl --shard-size 3 --batch 1 --workers 1 --engine ray"
    driver = subprocess.Popen(
        [sys.executable, "-c", script, *arguments.split(), "--address", cluster, "-o", str(out)], cwd=ROOT
    )
    assert soon(lambda: shard_path(out, 0).exists() or driver.poll() is not None)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    assert not shard_path(out, 2).exists()
    assert list(verify(out)) in ([1, 2], [2])

    done = draw(out, partial(Painter, TINY), workers=1)
    assert sum(done) == 7
    assert done[1] in (3, 6)
    assert verify(out) == {}
    there = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "timings.csv"}
    assert there == contents(drawn)
    assert (out / "timings.csv").read_text().startswith("ended,shard,first")


def test_no_room_for_a_worker_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"^the Ray cluster has 2 CPUs and 0 GPUs: no room for a worker on 1 GPU$"):
        list(on_ray(gpus=1)([1], list, map))


class Inverse:
    """Stands for an Enhancer; it works for others than this test's process alone."""

    device = torch.device("cpu")
    head = SimpleNamespace(trained_at=None)

    def __init__(self, driver: int) -> None:
        assert os.getpid() != driver

    def __call__(self, images: Any, strength: float) -> Any:
        return 255 - images


def test_enhances_folders_and_shards_as_this_process_does(
    image_folder: Callable[..., Path], pairs_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder, pairs, head = image_folder("in", 3), pairs_folder("pairs", 6, size=32), {"head": "inverse", "weights": "0"}
    (folder / "bad.png").write_text("<html>")
    far: Any = partial(Inverse, os.getpid())
    near: Any = partial(Inverse, 0)
    for maker, by, out in ((far, on_ray(1), tmp_path / "ray"), (near, in_process, tmp_path / "here")):
        outcome = enhance_files(list_jobs([folder], out), out, maker, head, Change(), by)
        assert (outcome.enhanced, outcome.skipped, list(outcome.failures)) == (3, 0, [folder / "bad.png"])
        assert enhance_shards(pairs, out / "set", maker, head, Change(), engine=by) == (6, 0, {})
    sides = ("here", "ray")
    for part in (".", "set"):
        found = [{p.name: p.read_bytes() for p in (tmp_path / side / part).iterdir() if p.is_file()} for side in sides]
        assert found[0] == found[1]
        assert len(found[0]) >= 3
    again = enhance_files(list_jobs([folder], tmp_path / "ray"), tmp_path / "ray", near, head, Change(), in_process)
    assert (again.enhanced, again.skipped) == (0, 3)


def test_ray_leaves_sigterm_to_the_command() -> None:
    class Rude:
        """As Ray does where it is not initialised yet."""

        def is_initialized(self) -> bool:
            return False

        def init(self, *_: object, **__: object) -> None:
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))

        def shutdown(self) -> None:
            pass

    before = signal.getsignal(signal.SIGTERM)
    with engine.cluster(Rude(), 1, "local"):
        assert signal.getsignal(signal.SIGTERM) == before
