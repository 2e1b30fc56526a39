import json
from functools import partial
from pathlib import Path

import pytest
import yaml
from PIL import Image

import undistill.demo
from tests.cli.conftest import Run
from tests.conftest import strong
from tests.report.test_page import read
from undistill.base.errors import Failure, UsageError
from undistill.base.record import Record
from undistill.demo import COUNT, DEMO_SEED, SEEN, TEMPLATE, demo, unseen_prompts
from undistill.heads import UNet
from undistill.metrics import BASELINES, tuning
from undistill.metrics.baselines import Filter
from undistill.prompts import make_prompts

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def pair(miniature: Path, tmp_path: Path) -> Path:
    """The untrained pair at 64 px, with a head of its own."""
    strong(UNet(width=4, depth=2)).save_pretrained(tmp_path / "a-head")
    spec = {**yaml.safe_load(miniature.read_text()), "size": 64, "head": str(tmp_path / "a-head")}
    path = tmp_path / "pair.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight prompts after three others, two rounds of timing, no search for filters; noise holds no faces anyway."""

    def no_faces() -> None:
        raise Failure("faces need dlib")

    monkeypatch.setattr("undistill.metrics.evaluate.load_aged_faces", no_faces)
    monkeypatch.setattr(undistill.demo, "demo", partial(demo, count=8))
    monkeypatch.setattr(undistill.demo, "SEEN", 3)
    monkeypatch.setattr(undistill.demo, "TIMED_ROUNDS", 2)
    monkeypatch.setattr(undistill.demo, "MEASURED_SPLIT", (0.0, 1.0))
    monkeypatch.setattr(tuning, "search", lambda *_: dict.fromkeys(BASELINES, Filter(blur=0.5)))


@pytest.mark.e2e
@pytest.mark.usefixtures("short")
def test_draws_measures_and_shows_and_goes_on_after_an_interrupt(
    pair: Path, tmp_path: Path, undistill: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("undistill.demo.evaluate", interrupted)
        assert undistill("demo", "--pair", pair, "-o", out)[0] == 130
    images = sorted(out.rglob("*/*.png"))
    drawn = [image.stat().st_mtime_ns for image in images]
    assert [image.relative_to(out).as_posix() for image in images] == [
        f"{side}/{number:06d}.png" for side in ("enhanced", "student", "teacher") for number in range(3, 11)
    ]
    assert not (out / "index.html").exists()
    (out / ".index.html.part").write_text("what a kill left")

    code, said, errors = undistill("demo", "--pair", pair, "-o", out)
    assert not code, errors
    assert said.splitlines()[-1] == str(out / "index.html")
    assert [image.stat().st_mtime_ns for image in images] == drawn

    results = json.loads((out / "results.json").read_text())
    assert results["settings"]["images"] == {"student": 8, "teacher": 8}
    assert results["settings"]["pair"] == "miniature"
    assert set(results["rows"]) == {"student", "teacher", "a-head", *BASELINES}
    cost = results["cost"]
    assert list(cost) == ["student", "a-head", "teacher"]
    assert all(row["seconds"]["value"] > 0 and row["seconds"]["n"] == 2 for row in cost.values())
    assert cost["student"]["seconds"]["value"] < cost["a-head"]["seconds"]["value"]
    assert cost["teacher"]["saved"]["why"] == "is the row itself"

    text = read(out / "index.html").text
    assert "Whether it is still the same person was not measured: faces need dlib." in text
    row = results["rows"]["a-head"]
    for figure in (f"{row['lpips_student']['value']:.3f}", f"{row['kid_teacher']['value']:.4f}".replace("-", MINUS)):
        assert figure in text
    assert f"{100 * (1 - cost['student']['saved']['value']):.0f}% of the teacher's way" in text
    assert f"undistill demo --pair {pair} -o {out}" in text
    assert Image.open(out / "triples.png").height == 3 * 132 - 4

    (out / "student" / "my-own.png").write_bytes(images[0].read_bytes())
    code, _, errors = undistill("demo", "--pair", pair, "-o", out)
    assert code == 2
    assert f"{out / 'student' / 'my-own.png'} is not of this demo" in errors


@pytest.mark.usefixtures("short")
def test_refuses_in_one_line(miniature: Path, pair: Path, tmp_path: Path, undistill: Run) -> None:
    folder, file = tmp_path / "mine", tmp_path / "file"
    folder.mkdir()
    for path in (folder / "index.html", file):
        path.write_text("my own")

    def refuses(words: str, *arguments: object) -> None:
        code, said, errors = undistill("demo", *arguments)
        assert (code, said) == (2, "")
        lines = [line for line in errors.splitlines() if "drawing names" not in line]
        assert len(lines) == 1
        assert lines[0].startswith("undistill: ")
        assert words in lines[0]

    refuses("is a file; -o takes a folder", "-o", file)
    refuses(f"{folder / 'index.html'} is not of this demo: choose another folder", "--pair", pair, "-o", folder)
    refuses("the pair miniature has no head of its own", "--pair", miniature, "-o", tmp_path / "new")
    refuses("no pair 'flux2'", "--pair", "flux2", "-o", tmp_path / "new")
    assert (folder / "index.html").read_text() == "my own"
    assert not (tmp_path / "new").exists()


def test_a_killed_demos_folder_is_its_own(tmp_path: Path) -> None:
    image = tmp_path / "student" / "000000.png"
    image.parent.mkdir()
    image.touch()
    with pytest.raises(UsageError, match="is not of this demo"):
        undistill.demo._refuse_others(tmp_path, {"student/000000.png"})
    Record(tmp_path).plan([Path("student/000000.png")])  # and then it was killed
    undistill.demo._refuse_others(tmp_path, {"student/000000.png"})


def test_nobody_has_been_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SEEN == 10_000
    monkeypatch.setattr(undistill.demo, "SEEN", 300)
    seen = {prompt.name for prompt in make_prompts(TEMPLATE, 300, DEMO_SEED)}
    assert len({prompt.name for prompt in unseen_prompts(COUNT)} - seen) == COUNT
