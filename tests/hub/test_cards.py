import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from tests.cli.conftest import Run, undistill  # noqa: F401  # a fixture
from undistill.base.errors import UsageError
from undistill.hub.cards import head_card
from undistill.pairs.spec import read_spec
from undistill.training.recipe import dump_recipe, read_recipe

ROOT = Path(__file__).parents[2]
VALUE = {"value": 0.4567, "low": 0.2, "high": 0.7, "n": 500}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What `undistill train` leaves, but for the weights."""
    folder = tmp_path / "run"
    (folder / "head").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(dump_recipe(read_recipe(ROOT / "recipes" / "flux1.yaml")))
    images = {"images": 242, "sha256": "0"}
    data = {"student": images, "teacher": images, "pairs": {"spec": read_spec("flux1").hash(), "prompts": "0"}}
    (folder / "data.json").write_text(json.dumps(data))
    metrics = {"step": 200, "trained_steps": 200, "val_loss": 0.9, "keep": "last"}
    (folder / "head" / "metrics.json").write_text(json.dumps(metrics))
    return folder


def metadata(text: str) -> ModelCardData:
    """As the hub reads it."""
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    return data


def write_results(path: Path, features: str = "appearance", **rows: Any) -> Path:
    settings = {"data": "/home/me/pairs", "split": [0.9, 1.0], "features": features}
    mine = {"gap_closed": VALUE, "identity": {"value": None, "why": "no faces"}, "kid_teacher": VALUE}
    path.write_text(
        json.dumps({"rows": {"student": {}, "teacher": {}, "blur": {}, "mine": mine, **rows}, "settings": settings})
    )
    return path


def test_a_card_from_the_runs_results(run: Path) -> None:
    write_results(run / "results.json")
    text = head_card(run, dataset="me/pairs")
    data = metadata(text)
    assert data.base_model == "black-forest-labs/FLUX.1-schnell"
    assert (data.datasets, data.license, data.pipeline_tag) == ("me/pairs", "apache-2.0", "image-to-image")
    assert data.tags == ["undistill", "portraits", "mmd"]
    (result,) = data.eval_results or []
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("gap_closed", 0.4567, "0.9:1")
    assert result.metric_args == {"interval_95": [0.2, 0.7], "n": 500, "features": "appearance"}
    assert result.dataset_name == "pairs"  # not where it lies on this machine
    assert "| gap closed, seen by `appearance` | 0.457 | 0.2 to 0.7 | 500 |" in text
    assert "Not measured" not in text
    assert yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["mode"] == "mmd"


def test_without_results_it_says_so(run: Path) -> None:
    text = head_card(run, base_model="me/student")
    assert metadata(text).base_model == "me/student"
    assert metadata(text).eval_results is None
    assert "Not measured beyond the losses of the run" in text
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**data, "pairs": {"spec": "of a spec of mine"}}))
    assert metadata(head_card(run)).base_model is None


def test_a_card_shows_what_several_extractors_see(run: Path, tmp_path: Path) -> None:
    blur = {"gap_closed": {"value": 0.1, "low": 0.05, "high": 0.15, "n": 500}}
    nothing = {"gap_closed": {"value": 0.1, "low": -0.1, "high": 0.3, "n": 500}}
    first = write_results(tmp_path / "1.json", blur=blur)
    second = write_results(tmp_path / "2.json", "alex-2", blur=blur, mine=nothing)
    text = head_card(run, [first, second])
    assert "| gap closed, seen by `appearance` | 0.457 |" in text
    assert "| gap closed, seen by `alex-2` | 0.1 | -0.1 to 0.3 | 500 |" in text
    assert "Of 2 extractors 1 sees a gain; it takes 2." in text  # first by itself: a gain
    with pytest.raises(UsageError, match="name one extractor twice"):
        head_card(run, [first, first])
    found = json.loads(second.read_text())
    other = tmp_path / "3.json"
    other.write_text(json.dumps({**found, "settings": {**found["settings"], "split": [0.5, 1.0]}}))
    with pytest.raises(UsageError, match="are of different images"):
        head_card(run, [first, other])
    bare = write_results(tmp_path / "4.json", "alex-4")  # without filters it says nothing beside
    assert "Of 2 extractors 1 sees a gain" in head_card(run, [first, second, bare])
    first.rename(run / "results.json")
    second.rename(run / "results-alex-2.json")
    assert "Of 2 extractors 1 sees a gain" in head_card(run)


def test_refuses_in_words(run: Path, tmp_path: Path) -> None:
    results = write_results(tmp_path / "two.json", other={})
    with pytest.raises(UsageError, match=r"has the rows mine, other: say which by --row"):
        head_card(run, [results])
    with pytest.raises(UsageError, match=r"has no row his: its rows are student, .*mine"):
        head_card(run, [results], "his")
    assert "gap closed" in head_card(run, [results], "mine")
    values = (
        {"mine": {"gap_closed": {"value": 0.5}}},
        {"mine": {"gap_closed": {"value": "x"}}},
        {"mine": [1]},
        {"mine": None},
    )
    written = json.loads(results.read_text())
    wrong = [json.dumps({**written, "rows": rows}) for rows in values]
    wrong += [
        json.dumps({**written, "settings": {**written["settings"], **change}})
        for change in ({"split": "all"}, {"features": 1})
    ]
    for broken in ("{", "[]", '{"rows": {}}', *wrong):
        (tmp_path / "broken.json").write_text(broken)
        with pytest.raises(UsageError, match=r"broken\.json (can't be read|is no results\.json)"):
            head_card(run, [tmp_path / "broken.json"])
    for name, texts in {
        "data.json": ("{", "[]", '{"student": {"images": 1}}', '{"student": 1, "teacher": 1}'),
        "head/metrics.json": ("{", "[]", '{"step": 1}', '{"step": [], "trained_steps": 1}'),
    }.items():
        whole = (run / name).read_text()
        for text in texts:
            (run / name).write_text(text)
            with pytest.raises(UsageError, match=rf"{name} is not as the run wrote it: ") as error:
                head_card(run)
            assert "\n" not in str(error.value)
        (run / name).write_text(whole)
    (run / "head" / "metrics.json").unlink()
    with pytest.raises(UsageError, match=r"is no finished run of `undistill train`: it has no head/metrics\.json"):
        head_card(run)


def test_the_verb(run: Path, tmp_path: Path, undistill: Run) -> None:  # noqa: F811
    code, out, _ = undistill("card", run)
    assert not code
    assert out.startswith("---\nlibrary_name: undistill\n") or "library_name: undistill" in out.split("---")[1]
    card = tmp_path / "card.md"
    assert not undistill("card", run, "-o", card)[0]
    assert card.read_text().strip() == out.strip()
    assert not undistill("card", run, "-o", card)[0]  # ours
    card.write_text("my own words")
    code, _, err = undistill("card", run, "-o", card)
    assert (code, "not made by this command" in err) == (2, True)
    assert undistill("card", tmp_path / "gone")[0] == 2


@pytest.mark.parametrize(("identity", "doubt"), [(0.99, ""), (0.9, "**Experimental.** Identity is 0.900, below 0.97")])
def test_a_card_warns_of_a_head_that_is_nothing_to_rely_on(run: Path, identity: float, doubt: str) -> None:
    mine = {"gap_closed": VALUE, "identity": {"value": identity, "low": None, "high": None, "n": 9}}
    blur = {"gap_closed": {"value": 0.1, "low": 0.05, "high": 0.15, "n": 500}}
    write_results(run / "results.json", mine=mine, blur=blur)
    text = head_card(run)
    assert (doubt or "Trained mmd") in text
    assert ("Experimental" in text) == bool(doubt)
    assert ("The filter blur is the better choice." in text) == bool(doubt)
