from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import running
from undistill.judge.answers import AnswerFile
from undistill.judge.server import make_server
from undistill.judge.study import Study, make_study
from undistill.report.judge import live_page

Folders = Callable[..., Path]


@pytest.fixture
def folders(image_folder: Folders) -> dict[str, Path]:
    """Two folders of six pictures, of different colours."""
    return {"mine": image_folder("secret-mine", 6, (48, 40)), "theirs": image_folder("secret-theirs", 6, (48, 40))}


@pytest.fixture
def study(folders: dict[str, Path]) -> Study:
    return make_study(folders, seed=3)


@contextmanager
def serving(answers: AnswerFile) -> Iterator[str]:
    """The page's address."""
    with running(make_server(answers, lambda: live_page(answers), 0)) as url:
        yield url
