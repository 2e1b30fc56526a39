from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from undistill.base.errors import Failure, UsageError
from undistill.dataset.samples import ImageFile
from undistill.judge.study import SCREEN_SIDES, Study, make_study

Folders = Callable[..., Path]


def shown(study: Study) -> list[tuple[str, str]]:
    return [(question.pair, question.left_name) for question in study.questions]


def test_every_pair_once_each_folder_left_in_half_and_the_order_is_the_seeds(folders: dict[str, Path]) -> None:
    study = make_study(folders, seed=1)
    assert sorted(pair for pair, _ in shown(study)) == [f"{number:03d}" for number in range(6)]
    assert [name for _, name in shown(study)].count("mine") == 3
    for question in study.questions:
        sides = {question.left_name: question.left, "the other": question.right}
        assert isinstance(question.left, ImageFile)
        assert question.left.path.parent == folders[question.left_name]
        assert {sample.id for sample in sides.values()} == {question.pair}
    assert shown(make_study(folders, seed=1)) == shown(study)
    others = [make_study(folders, seed=seed) for seed in range(2, 12)]
    assert all(other.id != study.id for other in others)
    assert len({tuple(shown(other)) for other in others}) > 5


@given(count=st.integers(1, 40), limit=st.integers(1, 50), seed=st.integers(0, 2**32))
def test_a_limit_takes_so_many_and_sides_stay_balanced(
    count: int, limit: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("study")
    for name in ("a", "b"):
        (root / name).mkdir()
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(name.encode())  # no picture is decoded to make a study
    study = make_study({"a": root / "a", "b": root / "b"}, seed, limit)
    asked = min(count, limit)
    assert len({question.pair for question in study.questions}) == asked
    assert abs(2 * [question.left_name for question in study.questions].count("a") - asked) <= 1


def test_other_pictures_or_names_are_another_study(folders: dict[str, Path], image_folder: Folders) -> None:
    before = make_study(folders).id
    assert make_study({"ours": folders["mine"], "theirs": folders["theirs"]}).id != before
    assert make_study(folders, limit=5).id != before
    (folders["mine"] / "000.png").write_bytes((folders["mine"] / "001.png").read_bytes())
    assert make_study(folders).id != before


def test_pictures_carry_nothing_but_pixels(folders: dict[str, Path]) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("head", "secret")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    for path in folders["mine"].glob("*.png"):
        Image.fromarray(pixels).save(path, pnginfo=note)
    for question in make_study(folders).questions:
        for side in SCREEN_SIDES:
            data = question.picture(side)
            assert b"secret" not in data
            assert data.count(b"IDAT") == 1
        mine = question.picture("left" if question.left_name == "mine" else "right")
        assert np.array_equal(np.asarray(Image.open(BytesIO(mine))), pixels)


def test_names_may_end_differently_and_those_alone_are_counted(folders: dict[str, Path]) -> None:
    for path in list(folders["theirs"].glob("*.png")):
        Image.open(path).save(path.with_suffix(".webp"))
        path.unlink()
    (folders["theirs"] / "005.webp").unlink()
    study = make_study(folders)
    assert len(study.questions) == 5
    assert study.alone == {"mine": 1}


def test_what_is_no_study_is_said_in_a_line(folders: dict[str, Path], image_folder: Folders, tmp_path: Path) -> None:
    for path in list(folders["theirs"].glob("*.png")):
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(UsageError, match="share no file name"):
        make_study(folders)
    with pytest.raises(UsageError, match="is not a folder"):
        make_study({"a": folders["mine"], "b": tmp_path / "nowhere"})
    twice = {"a": folders["mine"], "b": image_folder("twice", 2)}
    Image.open(twice["b"] / "000.png").save(twice["b"] / "000.webp")
    with pytest.raises(UsageError, match="have one name"):
        make_study(twice)
    broken = make_study({"a": folders["mine"], "b": image_folder("fine", 1)})
    Path(str(broken.questions[0].left)).write_bytes(b"no picture")
    with pytest.raises(Failure, match=r"000\.png is no image"):
        broken.questions[0].picture("left")
