import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.base.test_table import WIDTHS, check_figures, shown
from undistill.base.errors import Failure, UsageError
from undistill.base.record import Record
from undistill.dataset import fold_of
from undistill.dataset.samples import ImageFolders
from undistill.dataset.shard import Pairs
from undistill.metrics import DISTANCES, ITSELF, PICTURES, tuning
from undistill.metrics.baselines import Filter
from undistill.metrics.cache import cache_folder
from undistill.metrics.evaluate import described, evaluate
from undistill.metrics.extraction import _Part
from undistill.metrics.jackknife import Value
from undistill.metrics.results import Results, differing

Picture = Callable[[int], np.ndarray]
SIDE = 112
"""Of the pictures, px: most of the time goes by their area."""


def blob(number: int) -> np.ndarray:
    """A soft picture, (SIDE, SIDE, 3) in 0..255."""
    coarse = np.random.default_rng(number).integers(60, 200, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)


def striped(number: int, period: int, axis: int) -> np.ndarray:
    stripes = np.sin(2 * np.pi * np.indices((SIDE, SIDE, 1))[axis] / period)
    return np.asarray(blob(number) + 12 * stripes)


def save(folder: Path, numbers: range, picture: Picture) -> Path:
    folder.mkdir()
    for number in numbers:
        pixels = picture(number).round().clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


def found(score: Callable[[Filter], float], searched: Callable[[], None]) -> dict[str, Filter]:
    """In the place of `search`, for time: filters that it might find."""
    filters = {"sharpen": Filter(sharpen=0.5), "grain": Filter(grain=3.0), "colour": Filter(match=1.0)}
    return {**filters, "combined": Filter(match=1.0, sharpen=0.5), "blur": Filter(blur=1.0)}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache: the sets hold the same pictures in every test."""
    return tmp_path_factory.mktemp("seen")


@pytest.fixture
def sets(tmp_path: Path, seen: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The teacher draws stripes, the student doesn't; `good` has learned them, `away` draws others."""
    monkeypatch.setenv("UNDISTILL_CACHE", str(seen))
    monkeypatch.setattr(tuning, "search", found)
    student = range(20)
    return {
        "student": save(tmp_path / "student", student, blob),
        "teacher": save(tmp_path / "teacher", range(100, 120), lambda number: striped(number, 7, 0)),
        "good": save(tmp_path / "good", student, lambda number: striped(number, 7, 0)),
        "away": save(tmp_path / "away", student, lambda number: striped(number, 3, 1)),
    }


def both(sets: dict[str, Path]) -> ImageFolders:
    return ImageFolders([sets["student"]], [sets["teacher"]])


def test_a_head_that_has_learned_it_and_one_that_only_moves_away(sets: dict[str, Path], tmp_path: Path) -> None:
    enhanced = {name: sets[name] for name in ("good", "away")}
    results = evaluate(both(sets), enhanced, (0.4, 1), features="alex-1")
    closed = {name: row["gap_closed"] for name, row in results.rows.items()}
    assert closed["good"].low is not None
    assert closed["good"].low > 0.4
    for name in ("sharpen", "grain", "colour", "blur", "combined"):
        high = closed[name].high
        assert high is not None
        assert high < closed["good"].low
    assert closed["away"].value is not None
    assert closed["away"].value <= -0.5
    away = results.rows["away"]
    assert away["kid_student"].value is not None
    assert away["kid_student"].value > 0.01

    assert results.rows["student"]["gap_closed"].value is None
    assert results.rows["good"]["ssim_student"].value is not None
    assert results.rows["good"]["identity"].why == results.rows["good"]["age_drift"].why == "no face found"
    assert results.rows["good"]["periodic"].n == results.settings["images"]["student"]
    assert results.settings["fitted on"]["apart"]

    results.write(tmp_path / "results.json")
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["rows"]["good"]["gap_closed"]["value"] == closed["good"].value
    assert set(written) == {"rows", "settings", "versions"}

    kept = list((cache_folder() / "files").rglob("*.png"))
    assert kept
    for image in kept:  # a cache that is broken is made anew
        image.write_bytes(image.read_bytes()[:-40])
    assert evaluate(both(sets), enhanced, (0.4, 1), features="alex-1").rows == results.rows


def test_pairs_measure_what_their_images_in_folders_do(
    pairs_folder: Callable[..., Path], sets: dict[str, Path], tmp_path: Path
) -> None:
    pairs = Pairs(pairs_folder("pairs", 12))
    x, y, z = (tmp_path / name for name in "xyz")
    for row in pairs:
        for folder, png in ((x, row.student), (y, row.teacher), (z, row.teacher)):
            folder.mkdir(exist_ok=True)
            (folder / f"{row.id}.png").write_bytes(png)
    sources = (pairs, ImageFolders([x], [y]))
    results = [evaluate(source, {"z": z}, (0.5, 1), features="alex-1", limit=6, baselines=False) for source in sources]
    assert results[0].rows == results[1].rows
    assert results[0].rows["z"]["psnr_student"].n == 6
    assert results[0].settings["data"] == str(pairs.folder)
    assert results[0].settings["spec"] == pairs.description.spec
    assert results[1].settings["student"] == [str(x)]


def test_with_everything_as_the_split_nothing_is_measured_where_it_was_fitted(sets: dict[str, Path]) -> None:
    results = evaluate(both(sets), {"good": sets["good"]}, features="alex-1", baselines=False)
    assert not results.settings["fitted on"]["apart"]
    closed = results.rows["good"]["gap_closed"]
    assert closed.low is not None
    assert closed.high is not None
    assert closed.low < 1 < closed.high
    assert set(results.rows) == {"student", "teacher", "good"}


def test_the_same_evaluation_twice_looks_at_nothing_the_second_time(
    sets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(both(sets), {"good": sets["good"]}, (0.4, 1), features="alex-1")
    monkeypatch.setattr(_Part, "_look", None)
    monkeypatch.setattr(tuning, "search", None)
    assert evaluate(both(sets), {"good": sets["good"]}, (0.4, 1), features="alex-1").rows == first.rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enhanced": "teacher"}, "lacks 20 of 20 student images"),
        ({"name": "blur"}, "row of its own"),
        ({"split": (0.99999, 1.0)}, "0 images of the student"),
        ({"features": "vgg"}, "take one of"),
    ],
)
def test_what_does_not_fit(change: dict[str, object], message: str, sets: dict[str, Path]) -> None:
    enhanced = {str(change.get("name", "x")): sets[str(change.get("enhanced", "good"))]}
    split = change.get("split", (0.0, 1.0))
    assert isinstance(split, tuple)
    with pytest.raises(UsageError, match=message):
        evaluate(both(sets), enhanced, split, str(change.get("features", "alex-1")))


def test_another_size_is_named(sets: dict[str, Path]) -> None:
    Image.new("RGB", (240, 230)).save(sets["good"] / "003.png")
    with pytest.raises(Failure, match=r"003.png is 240 x 230 px"):
        evaluate(both(sets), {"good": sets["good"]}, features="alex-1")


def test_two_enhanced_images_of_one_name_are_named(sets: dict[str, Path]) -> None:
    (sets["good"] / "new").mkdir()
    (sets["good"] / "new" / "007.png").write_bytes((sets["good"] / "007.png").read_bytes())
    with pytest.raises(UsageError, match=r"good/007\.png and .*good/new/007\.png have one name"):
        evaluate(both(sets), {"good": sets["good"]}, features="alex-1")


@pytest.mark.parametrize("left", [1, 7])
def test_too_few_images_a_side(left: int, sets: dict[str, Path]) -> None:
    for path in sorted(sets["teacher"].iterdir())[left:]:
        path.unlink()
    with pytest.raises(UsageError, match=rf"^{left} images? of the teacher to measure: it takes at least 8 a side"):
        evaluate(both(sets), {"good": sets["good"]}, features="alex-1")


def test_with_eight_a_side_there_are_intervals(sets: dict[str, Path]) -> None:
    for side in ("student", "teacher"):
        for path in sorted(sets[side].iterdir())[8:]:
            path.unlink()
    results = evaluate(both(sets), {"good": sets["good"]}, features="alex-1", baselines=False)
    for row in ("student", "good"):
        assert results.rows[row]["kid_teacher"].low is not None


def test_an_enhanced_image_that_has_shrunk_is_named(sets: dict[str, Path]) -> None:
    Image.new("RGB", (32, 32)).save(sets["good"] / "003.png")
    with pytest.raises(Failure, match=r"003.png is 32 x 32 px, its student image"):
        evaluate(both(sets), {"good": sets["good"]}, features="alex-1", baselines=False)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_too_small_an_image_is_named(side: str, sets: dict[str, Path]) -> None:
    Image.new("RGB", (63, 70)).save(sets[side] / "small.png")
    with pytest.raises(UsageError, match=r"small\.png is 63 x 70 px: too small to measure"):
        evaluate(both(sets), {}, features="alex-1")


ROW = {
    **{metric: Value(0.5, 0.4, 0.6, 7) for metric in (*DISTANCES, *PICTURES)},
    "gap_closed": Value(None, why="too few"),
    "identity": Value(None, why="faces need dlib: pip install 'undistill[faces]'"),
    "faces_missing": Value(2.0),
}
MADE_UP = Results({"student": ROW | {"gap_closed": Value(None, why=ITSELF)}, "mine": ROW}, {})


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_shows_values_and_reasons_at_any_width(width: int) -> None:
    check_figures(MADE_UP.table(), width)
    said = shown(MADE_UP.show, width)
    assert "0.5 ±0.1" in said
    assert said.index("kid_teacher") < said.index("lpips") < said.index("fd_student")
    assert said.endswith("\nidentity: faces need dlib: pip install 'undistill[faces]'\ngap_closed: too few\n")
    assert ITSELF not in said


def test_the_table_as_markdown() -> None:
    said = MADE_UP.to_markdown()
    assert said.startswith("| row | kid_teacher | identity_rank1 | lpips | faces_missing |")
    assert "\n| mine | 0.5 ±0.1 |" in said
    assert said.endswith("\n- identity: faces need dlib: pip install 'undistill[faces]'\n- gap_closed: too few")


def test_settings_of_kept_results_are_held_against_what_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    asked = described(ImageFolders([Path("a")], [Path("b")]), {"x": Path("c")}, (0.0, 1.0), "alex-1", 0, None)
    Results({}, {**asked, "baselines": {"blur": {}}, "images": {"student": 8}}).write(path)
    assert differing(path, asked, baselines=True) == []
    assert differing(path, {**asked, "split": [0.0, 0.5], "limit": 8}, baselines=False) == [
        "split",
        "limit",
        "baselines",
    ]
    others = {key: value for key, value in asked.items() if key not in ("student", "teacher")} | {"data": "pairs"}
    assert differing(path, others, baselines=True) == ["data", "student", "teacher"]
    del asked["limit"]  # as an older version wrote it
    Results({}, {**asked, "baselines": {}}).write(path)
    assert differing(path, {**asked, "limit": 8}, baselines=False) == []
    for broken in (
        '{"rows": {',
        '{"rows": {}, "settings": []}',
        '{"rows": {"x": {"kid": {"value": "0"}}}, "settings": {}}',
    ):
        path.write_text(broken)
        with pytest.raises(UsageError, match=r"results\.json (can't be read|is no results\.json).*: give another -o"):
            differing(path, asked, baselines=True)


def record_folds(folder: Path, folds: int, wrong: int | None = None) -> None:
    """As `undistill enhance --folds` does; image number `wrong` was made by another head."""
    record = Record(folder)
    for path in sorted(folder.iterdir()):
        fold = fold_of(path.stem, folds) if path.stem != f"{wrong:03d}" else (fold_of(path.stem, folds) + 1) % folds
        record.note(Path(path.name), {"fold": f"{fold}/{folds}"})
    record.save()


def test_folds_are_measured_each_by_itself(sets: dict[str, Path]) -> None:
    record_folds(sets["good"], 2, wrong=-1)
    results = evaluate(both(sets), {name: sets[name] for name in ("good", "away")}, features="alex-1")
    assert results.settings["folds"] == 2
    assert not results.settings["fitted on"]["apart"]
    assert len(results.settings["baselines"]["grain"]) == 2  # tuned for each fold on the other
    closed = results.rows["good"]["gap_closed"]
    assert closed.n == 20
    assert closed.low is not None
    assert closed.low > 0.4


def test_folds_that_do_not_fit(sets: dict[str, Path]) -> None:
    record_folds(sets["good"], 2, wrong=3)
    with pytest.raises(UsageError, match=r"good: 003 was not made by the head that has not seen it"):
        evaluate(both(sets), {"good": sets["good"]}, features="alex-1", baselines=False)
    record_folds(sets["away"], 9, wrong=-1)
    with pytest.raises(UsageError, match="leave --limit out"):
        evaluate(both(sets), {"away": sets["away"]}, features="alex-1", limit=10, baselines=False)
    with pytest.raises(UsageError, match="fewer than two images of the student: train fewer folds"):
        evaluate(both(sets), {"away": sets["away"]}, features="alex-1", baselines=False)
