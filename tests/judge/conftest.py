from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

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
    server = make_server(answers, lambda: live_page(answers), 0)
    port = server.port
    thread = Thread(target=server.serve_on)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
        thread.join()
