"""Answers in a JSONL file, and what they come to.

The first line is `Study.header`; each of the others an answer: {"pair": "000012", "left": "mine",
"choice": "left"}, or "right", "none" (no difference) or null (taken back). A later answer replaces an earlier.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from undistill.base.errors import UsageError, naming
from undistill.base.files import whole_lines
from undistill.judge.study import Question, Study
from undistill.metrics.jackknife import Value, proportion

CHOICES = ("left", "right", "none")


@dataclass(frozen=True)
class Answers:
    """What one person has answered.

    Args:
        header: the study's.
        votes: by pair, the name that was chosen, or "" for no difference.
        left: how often the left picture was chosen.
    """

    header: dict[str, Any]
    votes: dict[str, str]
    left: int


@dataclass(frozen=True)
class Summary:
    """Two folders compared, by pair; of several people, a pair is won by whom more of them chose.

    Args:
        names: `wins` are of the first, `losses` of the second.
        ties: pairs without a winner, which rate and test leave out.
        pairs: that were to be judged.
        rate: wins of wins and losses, with Wilson's 95% interval.
        p: of the two-sided sign test; None: nothing to test.
        left, decided: how often the left picture was chosen, of the answers that chose one.
    """

    names: tuple[str, str]
    wins: int
    losses: int
    ties: int
    pairs: int
    rate: Value
    p: float | None
    left: int
    decided: int


def line(question: Question, choice: str | None) -> dict[str, Any]:
    """What an answer's line says."""
    return {"pair": question.pair, "left": question.left_name, "choice": choice}


class AnswerFile:
    """Answers of a study, kept in a file as they come.

    Raises:
        UsageError: the file holds something else.
    """

    def __init__(self, path: Path, study: Study) -> None:
        self.path = path
        self.study = study
        self.choices: dict[int, str] = {}
        begun = path.read_bytes() if path.exists() else b""
        if begun != _line(study.header) and _line(study.header).startswith(begun):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")  # no more than half a first line
            _append(path, study.header)
            return
        first, lines = _read(path)
        numbers = {question.pair: number for number, question in enumerate(study.questions)}
        if first["study"] != study.id or any(answer["pair"] not in numbers for answer in lines):
            raise UsageError(f"{path} holds answers about other folders, pictures, names or seed: choose another -o")
        with naming(path), path.open("r+b") as file:
            file.truncate(whole_lines(path))
        for answer in lines:
            self._take(numbers[answer["pair"]], answer["choice"])

    def answer(self, number: int, choice: str | None) -> None:
        """Keep an answer, or take it back (None): when this returns, it is on the disk."""
        _append(self.path, line(self.study.questions[number], choice))
        self._take(number, choice)

    def _take(self, number: int, choice: str | None) -> None:
        if choice is None:
            self.choices.pop(number, None)
        else:
            self.choices[number] = choice

    @property
    def finished(self) -> bool:
        """Whether every question has an answer."""
        return len(self.choices) == len(self.study.questions)


def read_answers(path: Path) -> Answers:
    """Raises:
    UsageError: the file can't be read, or holds no answers.
    """
    first, lines = _read(path)
    last = {answer["pair"]: answer for answer in lines}
    given = [answer for answer in last.values() if answer["choice"] is not None]
    one, other = first["names"]
    votes = {}
    for answer in given:
        right = other if answer["left"] == one else one
        votes[answer["pair"]] = {"left": answer["left"], "right": right, "none": ""}[answer["choice"]]
    return Answers(first, votes, sum(answer["choice"] == "left" for answer in given))


def summarise(answers: Sequence[Answers]) -> Summary:
    """Raises:
    UsageError: they are about different studies.
    """
    first = answers[0].header
    if any(each.header["study"] != first["study"] for each in answers):
        raise UsageError("these are answers about different folders, pictures or seeds: summarise them one by one")
    one, other = first["names"]
    net: dict[str, int] = {}
    for each in answers:
        for pair, vote in each.votes.items():
            net[pair] = net.get(pair, 0) + {one: 1, other: -1, "": 0}[vote]
    wins, losses = sum(votes > 0 for votes in net.values()), sum(votes < 0 for votes in net.values())
    return Summary(
        names=(one, other),
        wins=wins,
        losses=losses,
        ties=len(net) - wins - losses,
        pairs=first["pairs"],
        rate=proportion(wins, wins + losses),
        p=float(binomtest(wins, wins + losses).pvalue) if wins + losses else None,
        left=sum(each.left for each in answers),
        decided=sum(bool(vote) for each in answers for vote in each.votes.values()),
    )


def to_text(summary: Summary) -> str:
    """In words."""
    one, other = summary.names
    judged = f"{summary.wins + summary.losses + summary.ties} of {summary.pairs} pairs judged"
    if summary.p is None or summary.rate.value is None or summary.rate.low is None or summary.rate.high is None:
        return f"{judged}, none of them decided ({summary.ties} no difference)."
    rate, low, high = (f"{100 * share:.0f}%" for share in (summary.rate.value, summary.rate.low, summary.rate.high))
    return (
        f"{judged}: {one} won {summary.wins}, {other} {summary.losses}, {summary.ties} no difference.\n"
        f"{one} wins {rate} of the decided pairs (95% interval {low} to {high}; sign test: p = {summary.p:.2g}).\n"
        f"The left picture was chosen {summary.left} of {summary.decided} times."
    )


def _append(path: Path, what: dict[str, Any]) -> None:
    """A line more, or, where the disk is full, none."""
    with naming(path), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(_line(what)) < len(_line(what)):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def _line(what: dict[str, Any]) -> bytes:
    return json.dumps(what, ensure_ascii=False).encode() + b"\n"


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        whole = path.read_bytes()[: whole_lines(path)]
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    try:
        first, *lines = (json.loads(text) for text in whole.splitlines())
        one, other = first["names"]
        int(first["pairs"]), str(first["study"])
        _check(lines, {one, other})
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} holds no answers of undistill judge, or broken ones: choose another file") from error
    return first, lines


def _check(lines: Iterable[dict[str, Any]], names: set[str]) -> None:
    for answer in lines:
        known = answer["left"] in names and answer["choice"] in (*CHOICES, None)
        if not known or not isinstance(answer["pair"], str):
            raise ValueError(answer)
