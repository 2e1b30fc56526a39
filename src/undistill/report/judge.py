"""The page of `undistill judge`: live, with a server behind it, or exported, one file that keeps the answers itself."""

import json
from base64 import b64encode
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undistill.base.progress import progressed
from undistill.judge.study import QUESTION, SCREEN_SIDES, Study
from undistill.report import render, write_html

if TYPE_CHECKING:
    from undistill.judge.answers import AnswerFile  # which takes scipy for its tests


def live_page(answers: "AnswerFile") -> str:
    """HTML that asks the server for pictures by number, and knows neither names nor files."""
    return render("judge.html", **_parts(answers.study, choices=answers.choices))


def write_export(study: Study, path: Path) -> None:
    """The same page as one file, with all its pictures; its answers are kept by the browser, and downloaded.

    What the downloaded file says about names and sides stands in the page too, veiled: a look at the source doesn't
    tell, but whoever means to find out can.

    Raises:
        ImageError: a picture can't be read.
    """
    with closing(progressed("pictures", study.questions)) as questions:  # else the bar ends below an error's line
        pictures = [
            [f"data:image/png;base64,{b64encode(question.picture(side)).decode()}" for side in SCREEN_SIDES]
            for question in questions
        ]
    write_html("judge.html", path, **_parts(study, choices={}, pictures=pictures, key=_veiled(study)))


def _parts(study: Study, **more: Any) -> dict[str, Any]:
    return {"title": QUESTION, "study": {"id": study.id, "pairs": len(study.questions), **more}}


def _veiled(study: Study) -> str:
    key = {"header": study.header, "pairs": [[question.pair, question.left_name] for question in study.questions]}
    text = json.dumps(key, ensure_ascii=False).encode()
    return b64encode(bytes(a ^ b for a, b in zip(text, cycle(study.id.encode()), strict=False))).decode()
