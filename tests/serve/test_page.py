"""The page in Chromium."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import wait
from tests.serve.conftest import picture, runs_instead, served
from undistill.base.files import SAMPLES
from undistill.images import Pixels
from undistill.serve.faces import FACES, boxes_in
from undistill.serve.work import Work


@pytest.fixture
def url(work: Work) -> Iterator[str]:
    with served(work) as address:
        yield address


def text(browser: Any, name: str) -> str:
    return str(browser.find_element("id", name).text)


def choose(browser: Any, *files: Path) -> None:
    browser.find_element("id", "files").send_keys("\n".join(map(str, files)))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(made):
        path.write_bytes(picture((200, 240), seed=number))
    return made


def opened(browser: Any, url: str) -> None:
    browser.get(url)
    wait(browser, lambda: len(browser.find_elements("css selector", "#samples img")) == 8)


def test_a_picture_is_enhanced_compared_changed_and_downloaded(browser: Any, url: str, files: list[Path]) -> None:
    opened(browser, url)
    choose(browser, files[0])
    wait(browser, lambda: text(browser, "message").startswith("tiny-best at 1.00"))
    handle = browser.find_element("id", "handle")
    assert handle.get_attribute("aria-valuenow") == "50"
    handle.send_keys("\ue012\ue012")  # arrow left
    assert handle.get_attribute("aria-valuenow") == "46"
    handle.send_keys("\ue010")  # end
    assert handle.get_attribute("aria-valuetext") == "100% before, 0% after"
    browser.execute_script(
        "arguments[0].value = 0.3; arguments[0].dispatchEvent(new Event('input'))",
        browser.find_element("id", "strength"),
    )
    wait(browser, lambda: text(browser, "message").startswith("tiny-best at 0.30"))
    browser.execute_script(
        "arguments[0].value = 'tiny-esa'; arguments[0].dispatchEvent(new Event('change'))",
        browser.find_element("id", "head"),
    )
    wait(browser, lambda: text(browser, "message").startswith("tiny-esa at 0.30"))
    browser.find_element("css selector", "[data-zoom='2']").click()
    assert browser.execute_script("return document.getElementById('stack').offsetWidth") == 400
    browser.find_element("id", "download").click()
    made = browser.downloads / "0-enhanced.png"
    wait(browser, made.exists)
    assert Image.open(made).size == (200, 240)
    assert not np.array_equal(np.asarray(Image.open(made)), np.asarray(Image.open(files[0])))


@pytest.mark.skipif(not FACES, reason="needs dlib")
def test_the_face_fills_the_frame(browser: Any, url: str, work: Work, files: list[Path], tmp_path: Path) -> None:
    runs_instead(work, lambda pixels, strength: 255 - pixels)
    portrait = tmp_path / "portrait.png"
    Image.open(SAMPLES / "schnell-000123-ceo.webp").resize((320, 320)).save(portrait)
    opened(browser, url)
    choose(browser, portrait)
    wait(browser, lambda: text(browser, "message").startswith("tiny-best"))
    browser.find_element("id", "zoom-face").click()
    ((left, top, right, bottom),) = boxes_in(portrait.read_bytes())
    seen = """const frame = document.getElementById("scroller"), stack = document.getElementById("stack");
        const part = stack.offsetWidth / document.getElementById("before").naturalWidth;
        return [frame.scrollLeft, frame.scrollTop, frame.clientWidth, frame.clientHeight].map((each) => each / part)"""
    wait(browser, lambda: browser.execute_script(seen)[1] > 0)
    x, y, wide, high = browser.execute_script(seen)
    # A scrollbar that is no longer needed leaves a little room, and a wide frame shows the whole width.
    assert min(wide, high) == pytest.approx(max(right - left, bottom - top), rel=0.07)
    assert x == 0 or x + wide / 2 == pytest.approx((left + right) / 2, abs=3)
    assert y + high / 2 == pytest.approx((top + bottom) / 2, abs=3)
    assert browser.execute_script("return document.getElementById('after').style.clipPath").startswith("inset(0")
    choose(browser, files[0])  # the next picture is looked at in the same way: it has none
    wait(browser, lambda: text(browser, "message") == "No face was found in it.")


def test_several_with_a_broken_one_become_a_zip(browser: Any, url: str, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(picture()[:300])
    opened(browser, url)
    choose(browser, tmp_path / "broken.png", *files)
    wait(browser, lambda: "The image is broken" in text(browser, "message"))
    wait(browser, lambda: text(browser, "list").count("done") == 3)
    assert "broken.png: failed" in text(browser, "list")
    browser.find_element("id", "zip").click()
    wait(browser, (browser.downloads / "undistill.zip").exists)
    with zipfile.ZipFile(browser.downloads / "undistill.zip") as made:
        assert made.testzip() is None
        assert sorted(made.namelist()) == [f"{number}-enhanced.png" for number in range(3)]
    browser.find_element("id", "clear").click()
    assert not browser.find_element("id", "work").is_displayed()


def test_a_full_queue_is_waited_for_and_work_can_be_stopped(
    browser: Any, url: str, work: Work, files: list[Path]
) -> None:
    opened(browser, url)
    with work.place(), work.place(), work.place(), work.place():
        choose(browser, files[0])
        wait(browser, lambda: "The server is busy" in text(browser, "message"))
    wait(browser, lambda: text(browser, "message").startswith("tiny-best"))
    free = Event()

    def slow(pixels: Pixels, strength: float) -> Pixels:
        free.wait(10)
        return pixels

    runs_instead(work, slow)
    choose(browser, *files)
    wait(browser, lambda: browser.find_element("id", "stop").is_displayed())
    browser.find_element("id", "stop").click()
    wait(browser, lambda: text(browser, "list").count("stopped") == 3)
    free.set()


def test_a_key_is_asked_for(browser: Any, work: Work) -> None:
    with served(work, keys=("a-key-of-sixteen-or-more",)) as url:
        browser.get(url)
        wait(browser, lambda: browser.find_element("id", "key").is_displayed())
        browser.find_element("id", "key").send_keys("a-key-of-sixteen-or-more\n")
        wait(browser, lambda: len(browser.find_elements("css selector", "#samples img")) == 8)
        assert not browser.find_element("id", "key").is_displayed()


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_nothing_is_wide_small_or_nameless(browser: Any, url: str, files: list[Path], width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_core_python", reason="needs axe-core: pip install 'undistill[dev]'")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text()
    screen = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 500}
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        opened(browser, url)
        choose(browser, *files)
        wait(browser, lambda: text(browser, "list").count("done") == 3)
        browser.execute_script("document.getElementById('card').open = true")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        browser.execute_script(script)
        found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
        assert not serious, json.dumps(serious, indent=1)[:3000]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    errors = [each["message"] for each in browser.get_log("browser") if "Content Security" in each["message"]]
    assert not errors
