from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pairs.test_create import PROMPTS, TINY, contents, draw
from undistill.base.errors import Failure, UsageError
from undistill.dataset.enhanced import ENHANCED_SCHEMA, EnhancedRow
from undistill.dataset.shard import shard_path
from undistill.dataset.write import write_shard
from undistill.pairs.recover import recover
from undistill.pairs.verify import verify


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """7 pairs of `tiny` in shards of 3, in batches of 2."""
    draw(tmp_path / "pairs")
    return tmp_path / "pairs"


Lose = Callable[[Path], object]


@pytest.mark.parametrize(
    "lose",
    [
        lambda folder: (folder / "dataset.json").unlink(),
        lambda folder: (folder / "dataset.json").write_text("{"),
        lambda folder: (folder / "dataset.json").write_bytes(b"\xff"),
        lambda folder: (folder / "dataset.json").write_text('{"version": 1, "rows": 1000000000000}'),
        lambda folder: [(folder / name).unlink() for name in ("dataset.json", "prompts.jsonl")],
    ],
)
def test_the_bytes_are_those_that_were_lost(lose: Lose, pairs: Path) -> None:
    before = contents(pairs)
    lose(pairs)
    with pytest.raises(UsageError, match=f"`undistill pairs recover {pairs}` makes it anew"):
        verify(pairs)
    with pytest.raises(UsageError, match=f"`undistill pairs recover {pairs}` makes it anew"):
        draw(pairs)
    recover(pairs)
    assert contents(pairs) == before
    with pytest.raises(Failure, match="can be read"):
        recover(pairs)


def test_broken_and_missing_shards_are_left_to_verify(pairs: Path) -> None:
    before = contents(pairs)
    (pairs / "dataset.json").unlink()
    shard_path(pairs, 0).write_bytes(before["shard-000000.parquet"][:-9] + b"?" * 9)
    shard_path(pairs, 2).unlink()
    _, broken = recover(pairs)
    assert (len(broken), "shard-000000.parquet is broken" in broken[0]) == (1, True)
    assert list(verify(pairs)) == [0, 2]
    assert (pairs / "dataset.json").read_bytes() == before["dataset.json"]
    for name in ("dataset.json", "prompts.jsonl"):
        (pairs / name).unlink()
    with pytest.raises(UsageError, match=r"without a whole shard-000000\.parquet its prompts can't be known"):
        recover(pairs)


def test_what_is_not_known_is_asked_for(pairs: Path, tmp_path: Path) -> None:
    before = contents(pairs)
    (pairs / "dataset.json").unlink()
    (pairs / "timings.csv").unlink()
    with pytest.raises(UsageError, match=r"don't say what --batch .* give it here \(4 unless told\)"):
        recover(pairs)
    with pytest.raises(UsageError, match="--shard-size 4 is not what the data set was drawn with: 3"):
        recover(pairs, shard_size=4, batch=2)
    recover(pairs, batch=2)
    assert contents(pairs) == before
    one = tmp_path / "one"
    draw(one, PROMPTS[:2])
    before = contents(one)
    (one / "dataset.json").unlink()
    with pytest.raises(UsageError, match="don't say what --shard-size"):
        recover(one, batch=2)
    with pytest.raises(UsageError, match="don't say what --batch"):
        recover(one, shard_size=3)
    recover(one, shard_size=3, batch=2)
    assert contents(one) == before


def test_times_of_several_tries_say_nothing_of_the_batch(pairs: Path) -> None:
    with (pairs / "timings.csv").open("a") as file:
        file.write("2026-11-26T00:00:00+00:00,shard-000000.parquet,000001,1,1.0,1.0\n")
    (pairs / "dataset.json").unlink()
    with pytest.raises(UsageError, match="don't say what --batch"):
        recover(pairs)


def test_a_pair_that_is_not_shipped_is_asked_for(tmp_path: Path) -> None:
    mine = TINY.model_copy(update={"size": 32, "name": "mine"})
    draw(tmp_path / "pairs", spec=mine)
    before = contents(tmp_path / "pairs")
    (tmp_path / "pairs" / "dataset.json").unlink()
    with pytest.raises(UsageError, match="a pair that is not shipped: give its file, --pair FILE"):
        recover(tmp_path / "pairs")
    with pytest.raises(UsageError, match="were not drawn with the pair tiny"):
        recover(tmp_path / "pairs", TINY)
    recover(tmp_path / "pairs", mine)
    assert contents(tmp_path / "pairs") == before


def test_refuses_what_can_not_be_recovered(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        recover(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Failure, match="holds no whole shard"):
        recover(tmp_path / "empty")
    for text, words in (('{"version": 2}', "newer format"), ('{"version": 1, "pairs": {}}', "holds enhanced images")):
        (pairs / "dataset.json").write_text(text)
        with pytest.raises(UsageError, match=words):
            recover(pairs)
        assert (pairs / "dataset.json").read_text() == text
    (pairs / "dataset.json").unlink()
    prompts = (pairs / "prompts.jsonl").read_text()
    (pairs / "prompts.jsonl").write_text(prompts.replace("portrait of b", "portrait of x"))
    with pytest.raises(Failure, match=r"shard-000000\.parquet does not hold the rows that prompts\.jsonl has there"):
        recover(pairs)
    (pairs / "prompts.jsonl").write_text(prompts)
    write_shard(shard_path(pairs, 3), [], "0" * 64)
    with pytest.raises(Failure, match="were drawn with different pairs"):
        recover(pairs)
    shard_path(pairs, 3).unlink()
    row = EnhancedRow("000000", "a", "", 1, b"")
    write_shard(shard_path(tmp_path / "empty", 0), [row], "0" * 64, ENHANCED_SCHEMA)
    with pytest.raises(UsageError, match="holds no pairs, but enhanced"):
        recover(tmp_path / "empty")
