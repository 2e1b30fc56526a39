"""The docs' pictures of pages: python -m research.screenshots [demo] [serve] [judge] [comfyui CHECKOUT]

demo is taken of demo/index.html (`make demo`), comfyui of a checkout that `make comfyui` has prepared. Without names:
the first three. Needs Chromium and its driver.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WAIT_S = 420
UNDISTILL = [sys.executable, "-u", "-m", "undistill"]


@contextmanager
def browser(width: int, height: int) -> Iterator[Any]:
    """Chromium without a window, of this size, px."""
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(option)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        chrome.set_page_load_timeout(WAIT_S)
        chrome.set_script_timeout(WAIT_S)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield chrome
    finally:
        chrome.quit()


def take(chrome: Any, out: Path) -> None:
    """What the browser shows, as WebP."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        chrome.save_screenshot(file.name)
        Image.open(file.name).convert("RGB").save(out, quality=85, method=6)
    print(out)


def wait(there: Callable[[], object]) -> None:
    """Until something is there.

    Raises:
        TimeoutError: it isn't, after WAIT_S.
    """
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            if there():
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise TimeoutError


def demo(page: Path = Path("demo", "index.html")) -> None:
    """The first screen of the page that `undistill demo` writes."""
    with browser(1100, 1040) as chrome:
        chrome.get(page.resolve().as_uri())
        take(chrome, DOCS / "demo.webp")


def serve() -> None:
    """The service's page with a sample, left before, right enhanced."""
    process = subprocess.Popen([*UNDISTILL, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = next(line for line in process.stdout if "http://" in line)
        with browser(900, 640) as chrome:
            found = re.search(r"http://[\w.:]+", said)
            assert found is not None
            chrome.get(found[0])
            wait(lambda: len(chrome.find_elements("css selector", "#samples img")) == 8)
            chrome.find_elements("css selector", "#samples img")[0].click()
            wait(lambda: " at 1.00" in chrome.find_element("id", "message").text)
            chrome.execute_script("document.getElementById('message').style.visibility = 'hidden'")  # its milliseconds
            chrome.execute_script("document.getElementById('work').scrollIntoView()")
            time.sleep(1)  # the picture is drawn
            take(chrome, DOCS / "serve.webp")
    finally:
        process.terminate()
        process.wait(60)


def judge() -> None:
    """The page that asks which of two pictures looks more like a photograph."""
    with tempfile.TemporaryDirectory() as folder:
        for side, strength in (("schnell", "0"), ("flux1", "1")):
            command = ["enhance", "--samples", "-o", f"{folder}/{side}", "--strength", strength, "--quality", "95"]
            subprocess.run([*UNDISTILL, *command], check=True)
        page = Path(folder, "blind.html")
        sides = [f"{side}={folder}/{side}" for side in ("schnell", "flux1")]
        subprocess.run([*UNDISTILL, "judge", *sides, "--export", str(page)], check=True)
        with browser(1000, 760) as chrome:
            chrome.get(page.as_uri())
            wait(lambda: chrome.find_element("id", "left").is_enabled())
            take(chrome, DOCS / "judge.webp")


def main(names: list[str]) -> None:
    """Take those that are named."""
    if names[:1] == ["comfyui"]:
        from research import comfyui_page

        comfyui_page.main(names[1], DOCS / "comfyui.webp")
        return
    of_name = {"demo": demo, "serve": serve, "judge": judge}
    for name in names or list(of_name):
        of_name[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
