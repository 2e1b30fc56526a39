"""A picture of ComfyUI's own page with the example workflow, run: python -m research.screenshots comfyui CHECKOUT

CHECKOUT is one that `make comfyui` has prepared. Needs Chromium and its driver.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from PIL import Image
from selenium.webdriver import ActionChains, Keys

from research.comfyui import ROOT, enhance
from research.screenshots import browser, take, wait
from undistill.base.files import WEIGHTS

PORT = 18188
MAIN = Path(__file__).parents[1] / "tests" / "integrations" / "comfyui_main.py"
SAMPLE = WEIGHTS.parent / "samples" / "schnell-000009-doctor.webp"


def main(checkout: str, out: Path) -> None:
    """Start ComfyUI, open its page, load the workflow, run it, and take the picture."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (base / name).mkdir()
        (base / "custom_nodes" / "undistill").symlink_to(ROOT)
        (base / "user" / "default").mkdir()  # no greeting over the page
        (base / "user" / "default" / "comfy.settings.json").write_text('{"Comfy.TutorialCompleted": true}')
        Image.open(SAMPLE).convert("RGB").resize((512, 512)).save(base / "input" / "portrait.png")
        command = [sys.executable, str(MAIN), checkout, "--cpu", "--listen", "127.0.0.1", "--port", str(PORT)]
        command += ["--base-directory", folder, "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT.parents[1] / "src")}
        with (base / "log.txt").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            wait(lambda: bool(urlopen(f"http://127.0.0.1:{PORT}/system_stats", timeout=5)))
            _photograph(base, out)
        finally:
            process.terminate()
            process.wait(30)


def _photograph(base: Path, out: Path) -> None:
    with browser(1900, 760) as chrome:
        chrome.get(f"http://127.0.0.1:{PORT}/")
        wait(lambda: chrome.execute_script("return !!(window.app && window.app.graph && window.app.canvas)"))
        chrome.execute_script("return window.app.loadGraphData(arguments[0])", enhance())
        ActionChains(chrome).send_keys(Keys.ESCAPE).perform()
        chrome.execute_script("window.app.queuePrompt(0, 1)")
        wait(lambda: any((base / "output").iterdir()))
        time.sleep(20)  # the previews are fetched and drawn
        chrome.execute_script("window.app.canvas.ds.scale = 0.9; window.app.canvas.ds.offset = [60, 40]")
        chrome.execute_script("window.app.canvas.setDirty(true, true)")
        time.sleep(5)
        take(chrome, out)
