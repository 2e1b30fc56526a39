"""The way of a fit, with commands that only write what the real ones would."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.report.made_up import null, results, value
from undistill.base.errors import Failure, UsageError
from undistill.base.progress import progress
from undistill.dataset.shard import Description
from undistill.dataset.write import write_description
from undistill.fit import PAGE, Outcome, Request, fit, planned
from undistill.fit.budget import Speeds
from undistill.fit.facts import Facts
from undistill.fit.source import contents_of, drawn_pairs, find_images, large_enough
from undistill.metrics.results import write_json
from undistill.pairs.networks import DrawingCost
from undistill.pairs.plan import PairsPlan
from undistill.pairs.spec import PairSpec, read_spec

WHY = "student and teacher can't be told apart by these images"
TINY = Request(pair="tiny", quality="draft")
MEASURED = ["enhance", "evaluate", "evaluate", "evaluate", "card"]
"""What is done with a head, each time."""


class Commands:
    """Notes verbs, and writes what they would."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.found: dict[str, Any] = results()
        self.differs: dict[str, dict[str, Any]] = {}
        """What further extractors see of the head."""
        self.fails_at = ""
        self.shards = 100
        """Most that become whole."""

    def __call__(self, command: Sequence[str]) -> None:
        verb, out = command[0], Path(command[-1] if command[-1] != "--overwrite" else command[-2])
        with progress(verb, 2) as bar:
            bar.advance()
        if verb == self.fails_at:
            self.fails_at = ""
            raise Failure("the disk is full")
        self.ran.append(verb)
        if verb == "pairs":
            out.mkdir(exist_ok=True)
            rows = int(command[command.index("--limit") + 1])
            pair = read_spec("tiny").model_dump(mode="json")
            about: dict[str, Any] = {
                "version": 1,
                "pair": pair,
                "spec": "0",
                "prompts": "0",
                "shard_size": 256,
                "batch": 32,
            }
            write_description(out, Description(**about, rows=rows))
            for number in range(min(-(-rows // 256), self.shards)):
                (out / f"shard-{number:06d}.parquet").write_bytes(b"")
        elif verb == "train":
            (out / "head").mkdir(parents=True)
            (out / "head" / "model.safetensors").write_text(str(out))
        elif verb == "evaluate":
            found = json.loads(json.dumps(self.found))
            mine = found["rows"].pop("mine")
            seen = "appearance" if "appearance" in command else "alex-2" if "alex-2" in command else ""
            if seen in self.differs:
                mine["gap_closed"] = self.differs[seen]
            if "--enhanced" in command:
                found["rows"][command[command.index("--enhanced") + 1].partition("=")[0]] = mine
            write_json(found, out)
        else:
            out.parent.mkdir(exist_ok=True, parents=True)
            out.mkdir() if verb == "enhance" else out.write_text("")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Without the networks of tiny, which take seconds to import, and with speeds that nobody measured."""

    def plan(spec: PairSpec, count: int, batch: int = 4) -> PairsPlan:
        return PairsPlan(spec, count, batch, [], DrawingCost(0, 0, 1, 1, 0), [], None)

    speeds = Speeds(0.1, 0.1, 0.005, "made up")
    monkeypatch.setattr("undistill.fit.run.plan_pairs", plan)
    monkeypatch.setattr("undistill.fit.run.open_images", lambda request: None)
    monkeypatch.setattr("undistill.fit.run.measure_speeds", lambda *_: speeds)
    monkeypatch.setattr("undistill.fit.finish.write_sheet", lambda plan, path: (path.write_bytes(b"") and []) or [])
    return Commands()


def run(commands: Commands, out: Path, request: Request = TINY) -> Outcome:
    return fit(request, out, commands, lambda _: None, lambda _: None)


def test_from_a_pair_to_a_head(commands: Commands, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    outcome = run(commands, out)
    assert commands.ran == ["prompts", "pairs", "prompts", "pairs", "evaluate", "train", *MEASURED]
    assert outcome.verdict.outcome == "changes people"  # made up: identity 0.951
    assert "undistill serve --head" in outcome.next_up[1]
    assert (out / "head" / "model.safetensors").read_text() == "runs/tiny-best-256x200"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["outcome"] == "changes people"
    assert metrics["rows"]["mine"]["gap_closed"]["value"] == 0.58
    page = (out / PAGE).read_text()
    assert "A head that changes people" in page
    assert 'http-equiv="refresh"' not in page
    assert "undistill pairs create --pair tiny" in page
    assert "0.66 " not in page.partition("<h2")[0]


def test_it_goes_on_where_it_was_stopped(commands: Commands, tmp_path: Path) -> None:
    commands.fails_at = "enhance"
    with pytest.raises(Failure):
        run(commands, tmp_path / "mine")
    page = (tmp_path / "mine" / PAGE).read_text()
    assert "Stopped" in page
    assert "the disk is full" in page
    before = list(commands.ran)
    told: list[Facts] = []
    for _ in range(2):
        fit(TINY, tmp_path / "mine", commands, lambda _: None, told.append)
        assert commands.ran == [*before, *MEASURED]
    assert told[0]["Time"].startswith("measuring ")  # what is done counts no more
    assert told[1]["Time"] == "all is done"


def test_more_pairs_go_on_from_those_that_are_there(commands: Commands, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    run(commands, out)
    commands.ran.clear()
    run(commands, out, replace(TINY, count=2048))
    assert commands.ran == ["prompts", "pairs", "evaluate", "train", *MEASURED]
    assert (out / "head" / "model.safetensors").read_text() == "runs/tiny-best-2048x200"
    assert (out / "runs" / "tiny-best-256x200").is_dir()
    with pytest.raises(UsageError, match="2048 pairs are there already"):
        run(commands, out, replace(TINY, count=512))
    with pytest.raises(UsageError, match="begun before images, names or the pair spec changed"):
        run(commands, out, replace(TINY, count=4096, contents="other"))
    with pytest.raises(UsageError, match="begun with another domain"):
        run(commands, out, replace(TINY, domain="A photo of {name}"))


def test_pairs_that_were_asked_for_are_not_there_before_they_are_drawn(commands: Commands, tmp_path: Path) -> None:
    """As after a kill early in the drawing."""
    commands.shards = 2
    run(commands, tmp_path / "mine", replace(TINY, count=2000))
    assert drawn_pairs(tmp_path / "mine") == 512
    commands.shards = 100
    run(commands, tmp_path / "mine", replace(TINY, count=2001))
    assert drawn_pairs(tmp_path / "mine") == 2001


def test_what_images_come_from_has_a_hash(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Ada Okafor")
    for side in ("student", "teacher"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.png").write_bytes(b"1")
    named = replace(TINY, names=str(tmp_path / "names.txt"))
    folders = Request(student=str(tmp_path / "student"), teacher=(str(tmp_path / "teacher"),))
    before = [contents_of(each) for each in (TINY, named, folders)]
    assert len(set(before)) == 3
    (tmp_path / "names.txt").write_text("Ada Lovelace")
    (tmp_path / "teacher" / "b.png").write_bytes(b"2")
    assert [contents_of(each) == old for each, old in zip((TINY, named, folders), before, strict=True)] == [
        True,
        False,
        False,
    ]


def test_small_images_do_not_count(tmp_path: Path) -> None:
    sizes = [(400, 500)] * 61 + [(399, 500)] * 30
    for side, count in (("student", len(sizes)), ("teacher", 61)):
        (tmp_path / side).mkdir()
        for number, size in enumerate(sizes[:count]):
            Image.new("RGB", size).save(tmp_path / side / f"{number}.png")
    request = Request(student=str(tmp_path / "student"), teacher=(str(tmp_path / "teacher"),))
    images = find_images(request)
    assert large_enough(images, request, 400).there == 61
    (tmp_path / "teacher" / "0.png").unlink()
    (tmp_path / "teacher" / "1.png").unlink()
    with pytest.raises(UsageError, match="59 images a side of 400 px or more are too few"):
        large_enough(replace(images, there=91), request, 400)


def test_it_ends_where_nothing_can_be_learned(commands: Commands, tmp_path: Path) -> None:
    for row in commands.found["rows"].values():
        row["gap_closed"] = null(WHY)
    outcome = run(commands, tmp_path / "mine")
    assert outcome.verdict.outcome == "no gap"
    assert "train" not in commands.ran
    page = (tmp_path / "mine" / PAGE).read_text()
    assert "Nothing to learn can be seen" in page
    assert "No head was trained" in page
    told: list[Facts] = []
    fit(TINY, tmp_path / "mine", commands, lambda _: None, told.append)
    assert told[0]["Time"] == "all is done"
    assert not (tmp_path / "mine" / "head").exists()


def test_a_gap_that_more_pairs_do_not_show_leaves_no_head(commands: Commands, tmp_path: Path) -> None:
    run(commands, tmp_path / "mine")
    assert (tmp_path / "mine" / "head").exists()
    for row in commands.found["rows"].values():
        row["gap_closed"] = null(WHY)
    run(commands, tmp_path / "mine", replace(TINY, count=2048))
    assert not (tmp_path / "mine" / "head").exists()
    assert (tmp_path / "mine" / "runs" / "tiny-best-256x200" / "head").exists()


def test_it_names_the_filter_that_does_as_well(commands: Commands, tmp_path: Path) -> None:
    commands.found = results(value(0.2, 0.1, 0.3), value(0.19, 0.1, 0.28))
    commands.found["rows"]["mine"]["identity"] = value(0.99)
    outcome = run(commands, tmp_path / "mine")
    assert (outcome.verdict.outcome, outcome.verdict.instead) == ("no better", "blur")
    page = (tmp_path / "mine" / PAGE).read_text()
    assert "as an experiment" in page
    assert "Take the filter <strong>blur</strong>" in page


def test_a_gain_takes_two_extractors(commands: Commands, tmp_path: Path) -> None:
    commands.found["rows"]["mine"]["identity"] = value(0.99)
    commands.differs = {"appearance": value(0.1, -0.1, 0.3), "alex-2": null(WHY)}
    outcome = run(commands, tmp_path / "mine")
    assert outcome.verdict.outcome == "no better"
    assert "Of 3 extractors 1 sees a gain; it takes 2." in outcome.verdict.says
    page = (tmp_path / "mine" / PAGE).read_text()
    assert all(f"Seen by {features}</h3>" in page for features in ("efficientnet-lite0", "appearance", "alex-2"))
    metrics = json.loads((tmp_path / "mine" / "metrics.json").read_text())
    assert metrics["seen_by"]["appearance"]["mine"]["value"] == 0.1
    commands.differs = {"appearance": value(0.58, 0.5, 0.66)}
    outcome = run(commands, tmp_path / "other")
    assert outcome.verdict.outcome == "better"


def test_the_page_says_what_ended_it(commands: Commands, tmp_path: Path) -> None:
    for error, says in (
        (ValueError("a fault of ours"), "a fault of ours"),
        (KeyboardInterrupt(), "It was interrupted."),
    ):

        def raises(command: Sequence[str], error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            fit(TINY, tmp_path / "mine", raises, lambda _: None, lambda _: None)
        assert f'<p class="lede">{says}</p>' in (tmp_path / "mine" / PAGE).read_text()


def test_while_it_runs_the_page_says_how_far_it_is(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undistill.fit.page.EVERY_S", 0.0)
    seen: list[str] = []
    write: Callable[..., None] = commands.__call__

    def look(command: Sequence[str]) -> None:
        write(command)
        seen.append(Path(PAGE).read_text())

    fit(TINY, tmp_path / "mine", look, lambda _: None, lambda _: None)
    training = seen[5]
    assert 'http-equiv="refresh"' in training
    assert "train: 1 of 2" in training
    assert training.count('<li class="done">') == 3
    assert training.count('<li class="running">') == 1
    assert training.count('<li class="waiting">') == len(MEASURED)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (replace(TINY, count=100), "--count 100 is too small to measure anything"),
        (replace(TINY, pair="nothing"), "no pair 'nothing'"),
        (Request(student="/nowhere", teacher=("/nowhere",)), "/nowhere is not a folder of images"),
        (replace(TINY, count=2**40), "GB free, and 1,099,511,627,776 pairs take"),
    ],
)
def test_nothing_is_begun_that_can_not_end(commands: Commands, tmp_path: Path, request_: Request, says: str) -> None:
    with pytest.raises((UsageError, Failure), match=says):
        run(commands, tmp_path / "mine", request_)
    assert not commands.ran
    assert not (tmp_path / "mine").exists()


def test_nobody_elses_folder_is_used(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("")
    with pytest.raises(UsageError, match="holds something else: choose another folder for -o"):
        run(commands, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_what_it_has_written_and_is_broken_is_one_line(commands: Commands, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    run(commands, out)
    kept = json.loads((out / "fit.json").read_text())
    wrong: tuple[Any, ...] = (
        [],
        {},
        {**kept, "source": 1},
        {**kept, "speeds": {"pair": "x"}},
        {**kept, "amounts": [1]},
    )
    files = {"fit.json": [json.dumps(each) for each in wrong]}
    files["plan.json"] = ["[]", '{"done": 1}']
    for path in sorted(out.rglob("results*.json")):
        found = json.loads(path.read_text())
        changes: list[Any] = [{"rows": {}}, {"rows": {"mine": 1}}, {"settings": {}}]
        files[path.relative_to(out).as_posix()] = ["{", *(json.dumps({**found, **change}) for change in changes)]
    assert len(files) > 3
    for name, texts in files.items():
        whole = (out / name).read_text()
        for text in texts:
            (out / name).write_text(text)
            with pytest.raises(UsageError, match=name) as error:
                run(commands, out)
            assert "\n" not in str(error.value)
        (out / name).write_text(whole)
    run(commands, out)


def test_a_budget_too_small_is_refused_as_soon_as_that_is_known(commands: Commands, tmp_path: Path) -> None:
    for call in (run, lambda _, out, request: planned(request, out)):
        with pytest.raises(UsageError, match="too small to measure anything: to begin and to draw 256 pairs take 77 s"):
            call(commands, tmp_path / "mine", replace(TINY, budget=60.0))
    assert not commands.ran
    with pytest.raises(UsageError, match="too small to measure anything: 256 pairs, 100 steps and the measure take"):
        run(commands, tmp_path / "mine", replace(TINY, budget=80.0))
    assert commands.ran == ["prompts", "pairs"]
    run(commands, tmp_path / "mine", replace(TINY, budget=180.0))
    assert commands.ran.count("pairs") == 2


def test_a_plan_knows_what_was_measured(commands: Commands, tmp_path: Path) -> None:
    facts, _, steps = planned(TINY, tmp_path / "mine")
    assert (steps, "Time" in facts) == (200, False)
    run(commands, tmp_path / "mine")
    facts, _, steps = planned(replace(TINY, quality="good", budget=600.0), tmp_path / "mine")
    assert "drawing" in facts["Time"]
    assert 200 < steps < 4000
    assert "0.1 s a pair" in facts["Speed"]
