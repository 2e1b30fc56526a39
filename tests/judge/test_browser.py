"""The page in Chromium."""

import errno
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait
from tests.judge.conftest import serving
from undistill.judge.answers import AnswerFile, read_answers
from undistill.judge.study import Study
from undistill.report.judge import write_export


def count(browser: Any) -> str:
    return str(browser.find_element("id", "count").text)


def ready(browser: Any, text: str) -> None:
    """The counter says so, and both pictures are there to be judged."""
    wait(browser, lambda: count(browser) == text and browser.find_element("id", "left").is_enabled())
    for side in ("left", "right"):
        width = browser.execute_script(f"return document.getElementById('{side}-picture').naturalWidth")
        assert width == 48


def press(browser: Any, key: str) -> None:
    browser.find_element("tag name", "body").send_keys(key)


def test_judged_by_key_and_button_undone_and_gone_on_with_after_reload(
    browser: Any, study: Study, tmp_path: Path
) -> None:
    answers = AnswerFile(tmp_path / "answers.jsonl", study)
    with serving(answers) as url:
        browser.get(url)
        ready(browser, "0 of 6")
        assert browser.title == "Which looks more like a photograph?"
        for number, (key, choice) in enumerate((("1", "left"), ("2", "right"), ("0", "none")), start=1):
            press(browser, key)
            ready(browser, f"{number} of 6")
            assert answers.choices[number - 1] == choice
        press(browser, "u")
        ready(browser, "2 of 6")
        browser.find_element("id", "right").click()
        ready(browser, "3 of 6")
        browser.refresh()
        ready(browser, "3 of 6")
        assert answers.choices == {0: "left", 1: "right", 2: "right"}
    answers = AnswerFile(answers.path, study)  # the command, started again on another port
    with serving(answers) as url:
        browser.get(url)
        for number in (4, 5):
            ready(browser, f"{number - 1} of 6")
            press(browser, "1")
        ready(browser, "5 of 6")
        browser.find_element("id", "none").click()
        wait(browser, lambda: "6 of 6 pairs judged" in browser.find_element("id", "result").text)
        assert answers.finished
        assert not browser.find_element("id", "left").is_displayed()
        browser.find_element("id", "undo").click()
        ready(browser, "5 of 6")


def test_an_answer_that_was_not_kept_is_not_counted(
    browser: Any, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with serving(AnswerFile(tmp_path / "answers.jsonl", study)) as url:
        browser.get(url)
        ready(browser, "0 of 6")
        with monkeypatch.context() as patch:
            patch.setattr(AnswerFile, "answer", full)
            press(browser, "1")
            wait(browser, lambda: "Not saved" in browser.find_element("id", "message").text)
            ready(browser, "0 of 6")
        press(browser, "1")
        ready(browser, "1 of 6")
        assert browser.find_element("id", "message").text == ""


def test_the_exported_page_keeps_answers_and_gives_them_as_a_file(browser: Any, study: Study, tmp_path: Path) -> None:
    write_export(study, tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    ready(browser, "0 of 6")
    for number, key in enumerate("1201", start=1):
        press(browser, key)
        ready(browser, f"{number} of 6")
    press(browser, "u")
    ready(browser, "3 of 6")
    browser.refresh()
    for number, key in enumerate("221", start=4):
        ready(browser, f"{number - 1} of 6")
        press(browser, key)
    wait(browser, lambda: browser.find_element("id", "done").is_displayed())
    browser.find_element("id", "download").click()
    file = browser.downloads / "answers.jsonl"
    wait(browser, file.exists)
    assert AnswerFile(file, study).choices == dict(enumerate(["left", "right", "none", "right", "right", "left"]))
    assert len(read_answers(file).votes) == 6


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 720)])
def test_all_is_in_sight_on_a_phone_and_on_a_desktop(
    browser: Any, study: Study, tmp_path: Path, width: int, height: int
) -> None:
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        with serving(AnswerFile(tmp_path / "answers.jsonl", study)) as url:
            browser.get(url)
            ready(browser, "0 of 6")
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width
            for element in ("left", "none", "right", "left-picture", "right-picture", "undo"):
                box = browser.find_element("id", element).rect
                assert box["height"] >= 44 or element == "undo"
                assert 0 <= box["y"] < box["y"] + box["height"] <= height, element
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
