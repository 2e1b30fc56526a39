import json
import random
import resource
from pathlib import Path

import pytest

from undistill.base.errors import UsageError
from undistill.judge.answers import AnswerFile, Answers, line, read_answers, summarise, to_text
from undistill.judge.study import Study, make_study

HEADER = {"study": "x", "names": ["mine", "theirs"], "seed": 0, "pairs": 50}


def answers(wins: int, losses: int, ties: int, left: int = 0) -> Answers:
    votes = ["mine"] * wins + ["theirs"] * losses + [""] * ties
    return Answers(HEADER, {str(number): vote for number, vote in enumerate(votes)}, left)


def test_answers_are_kept_and_found_again(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    first = AnswerFile(path, study)
    assert not first.finished
    for number, choice in enumerate(("left", "right", "none")):
        first.answer(number, choice)
    first.answer(1, None)
    first.answer(2, "left")
    again = AnswerFile(path, study)
    assert again.choices == {0: "left", 2: "left"} == first.choices
    for number in (1, 3, 4, 5):
        again.answer(number, "right")
    assert again.finished
    assert AnswerFile(path, study).choices == again.choices
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert lines[0] == study.header
    assert lines[1] == {"pair": study.questions[0].pair, "left": study.questions[0].left_name, "choice": "left"}


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_half_written_last_line_is_dropped_and_written_over(study: Study, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "answers.jsonl"
    first = AnswerFile(path, study)
    first.answer(0, "left")
    first.answer(1, "left")
    path.write_bytes(path.read_bytes()[:-cut])
    again = AnswerFile(path, study)
    assert again.choices == {0: "left"}
    again.answer(1, "right")
    assert read_answers(path).left == 1
    assert AnswerFile(path, study).choices == {0: "left", 1: "right"}


def test_half_a_first_line_is_none(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    AnswerFile(path, study)
    whole = path.read_bytes()
    for length in (0, 1, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:length])
        assert AnswerFile(path, study).choices == {}
        assert path.read_bytes() == whole


@pytest.mark.parametrize("room", [0, 10])
def test_a_full_disk_leaves_no_half_line(room: int, study: Study, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    file = AnswerFile(path, study)
    file.answer(0, "left")
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
    try:
        with pytest.raises(OSError, match=r"too large|No space") as caught:
            file.answer(1, "right")
        assert caught.value.filename == str(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert file.choices == {0: "left"}
    file.answer(1, "right")
    assert AnswerFile(path, study).choices == {0: "left", 1: "right"}


def test_files_of_others_are_refused_and_left_alone(study: Study, folders: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    AnswerFile(other, make_study(folders, seed=99)).answer(0, "left")
    for number, text in enumerate(["notes", "notes\n", "{}\n", '{"study": 1, "names": 3}\n', "[1]\n", "\xff\n"]):
        (tmp_path / f"{number}.txt").write_text(text, encoding="latin-1")
    stranger = line(study.questions[0], "left") | {"pair": "nobody"}
    (tmp_path / "stranger.txt").write_text(f"{json.dumps(study.header)}\n{json.dumps(stranger)}\n")
    for path in (other, *tmp_path.glob("*.txt")):
        before = path.read_bytes()
        with pytest.raises(UsageError, match=path.name):
            AnswerFile(path, study)
        assert path.read_bytes() == before
    with pytest.raises(UsageError, match="can't be read"):
        read_answers(tmp_path / "nowhere")


def test_wins_are_the_first_names_whatever_the_side(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    file = AnswerFile(path, study)
    for number, question in enumerate(study.questions):
        file.answer(number, "none" if number == 5 else "left" if question.left_name == "mine" else "right")
    summary = summarise([read_answers(path)])
    assert (summary.wins, summary.losses, summary.ties, summary.pairs) == (5, 0, 1, 6)
    assert summary.left == sum(question.left_name == "mine" for question in study.questions[:5])
    assert summary.decided == 5


def test_rate_wilson_and_sign_test_have_their_known_values() -> None:
    # Wilson's interval of 31 of 40 and the exact two-sided sign test, ties left out.
    summary = summarise([answers(31, 9, 10, left=21)])
    assert summary.rate.value == pytest.approx(0.775)
    assert summary.rate.low == pytest.approx(0.625, abs=0.001)
    assert summary.rate.high == pytest.approx(0.877, abs=0.001)
    assert summary.p == pytest.approx(0.000681, abs=1e-5)
    text = to_text(summary)
    assert "50 of 50 pairs judged: mine won 31, theirs 9, 10 no difference." in text
    assert "mine wins 78% of the decided pairs (95% interval 62% to 88%; sign test: p = 0.00068)" in text
    assert "21 of 40 times" in text


def test_nothing_decided_has_no_rate() -> None:
    assert to_text(summarise([answers(0, 0, 3)])) == "3 of 50 pairs judged, none of them decided (3 no difference)."
    assert summarise([answers(0, 0, 0)]).p is None


def test_guessing_wins_seldom() -> None:
    draws = random.Random(0)
    small = 0
    for _ in range(200):
        wins = sum(draws.random() < 0.5 for _ in range(40))
        summary = summarise([answers(wins, 40 - wins, 5)])
        assert summary.p is not None
        small += summary.p < 0.05
    assert 1 <= small <= 16


def test_of_several_people_a_pair_is_won_by_whom_more_chose() -> None:
    votes = [{"a": "mine", "b": "mine", "c": "theirs"}, {"a": "mine", "b": "theirs"}, {"a": "theirs", "c": "theirs"}]
    summary = summarise([Answers(HEADER, each, 0) for each in votes])
    assert (summary.wins, summary.losses, summary.ties) == (1, 1, 1)
    with pytest.raises(UsageError, match="different folders"):
        summarise([answers(1, 0, 0), Answers({**HEADER, "study": "y"}, {}, 0)])
