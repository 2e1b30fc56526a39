"""The nodes in a real ComfyUI, headless on a CPU, over /prompt and the websocket: where COMFYUI_PATH is set.

git clone https://github.com/comfyanonymous/ComfyUI
COMFYUI_PATH=ComfyUI make comfyui
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import aiohttp
import numpy as np
import pytest
from PIL import Image
from research.comfyui import prompt

from tests.integrations.comfy_stub import NODES
from undistill.base.files import WEIGHTS
from undistill.enhance import Enhancer
from undistill.heads import shipped_heads

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WAIT_S = 300


@dataclass
class Server:
    """A running ComfyUI."""

    address: str
    base: Path

    def get(self, path: str) -> Any:
        with urlopen(f"{self.address}{path}", timeout=WAIT_S) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        request = Request(f"{self.address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=WAIT_S) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def run(self, nodes: dict[str, Any], cancel_at: int | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The outputs of a prompt, and what was told on the websocket meanwhile.

        Args:
            cancel_at: press Cancel when our bar says so many.
        """
        return asyncio.run(self._run(nodes, cancel_at))

    async def _run(self, nodes: dict[str, Any], cancel_at: int | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        client, told = uuid4().hex, []
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.address}/ws?clientId={client}", max_msg_size=0) as messages,
            asyncio.timeout(WAIT_S),
        ):
            async with session.post(f"{self.address}/prompt", json={"prompt": nodes, "client_id": client}) as answer:
                begun = await answer.json()
            assert not begun.get("node_errors"), begun
            while True:
                message = await messages.receive()
                if message.type != aiohttp.WSMsgType.TEXT:
                    continue  # a preview
                said = json.loads(message.data)
                told.append(said)
                if said["type"] == "progress" and said["data"]["value"] == cancel_at:
                    await (await session.post(f"{self.address}/interrupt")).read()
                if said["type"] in ("execution_success", "execution_error", "execution_interrupted"):
                    break
        history = self.get(f"/history/{begun['prompt_id']}").get(begun["prompt_id"], {})
        return history.get("outputs", {}), told

    def picture(self, outputs: dict[str, Any], node: str) -> Image.Image:
        (found, *_) = outputs[node]["images"]
        return Image.open(self.base / found["type"] / found["subfolder"] / found["filename"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    checkout = os.environ.get("COMFYUI_PATH")
    if not checkout:
        pytest.skip("COMFYUI_PATH is not set: a checkout of ComfyUI that `make comfyui` has prepared")
    base = tmp_path_factory.mktemp("comfyui")
    for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
        (base / name).mkdir()
    (base / "custom_nodes" / "undistill").symlink_to(NODES)
    sample = Image.open(WEIGHTS.parent / "samples" / "schnell-000009-doctor.webp").convert("RGB").resize((160, 128))
    sample.save(base / "input" / "portrait.png")
    holed = sample.copy()
    holed.putalpha(Image.linear_gradient("L").resize(sample.size))
    holed.save(base / "input" / "holed.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, str(HERE / "comfyui_main.py"), checkout, "--cpu", "--listen", "127.0.0.1", "--port", str(port),
        "--base-directory", str(base), "--disable-api-nodes", "--database-url", "sqlite:///:memory:",
    ]  # fmt: skip
    log = base / "log.txt"
    with log.open("w") as written:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, env=environment)
    try:
        running = Server(f"http://127.0.0.1:{port}", base)
        end = time.monotonic() + WAIT_S
        while True:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"ComfyUI has not started:\n{log.read_text()[-3000:]}")
            try:
                running.get("/system_stats")
                break
            except OSError:
                time.sleep(0.5)
        yield running
    finally:
        process.terminate()
        process.wait(30)


def test_the_nodes_are_there(server: Server) -> None:
    for node in ("UndistillLoadHead", "UndistillEnhancePortrait", "UndistillCompare", "UndistillStudentAndHead"):
        found = server.get(f"/object_info/{node}")[node]
        assert found["category"] == "undistill"
        assert found["description"]
        assert found["python_module"] == "custom_nodes.undistill"
    heads = server.get("/object_info/UndistillLoadHead")["UndistillLoadHead"]["input"]["required"]["head"]
    assert heads[1]["options"] == shipped_heads()
    assert heads[1]["tooltip"]


def test_the_example_workflow(server: Server) -> None:
    outputs, told = server.run(prompt())
    assert told[-1]["type"] == "execution_success"
    made = np.asarray(server.picture(outputs, "5")).astype(int)
    expected = Enhancer("flux1", "cpu")(np.asarray(Image.open(server.base / "input" / "portrait.png")))
    assert np.abs(made - expected).max() <= 1  # ComfyUI cuts off where we round
    bars = [message["data"] for message in told if message["type"] == "progress" and message["data"]["node"] == "3"]
    assert [(bar["value"], bar["max"]) for bar in bars] == [(1, 1)]
    assert server.picture(outputs, "4").size == (160 + 4 + 160, 128)


def test_a_mask_and_a_batch(server: Server) -> None:
    nodes = prompt()
    nodes["1"]["inputs"]["image"] = "holed.png"  # its mask is what its alpha leaves out
    nodes["6"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 3}}
    nodes["3"]["inputs"] |= {"image": ["6", 0], "mask": ["1", 1]}
    nodes["4"]["inputs"]["before"] = ["6", 0]
    outputs, told = server.run(nodes)
    assert told[-1]["type"] == "execution_success"
    assert len(outputs["5"]["images"]) == 3
    given = np.asarray(Image.open(server.base / "input" / "portrait.png")).astype(int)
    made = np.asarray(server.picture(outputs, "5")).astype(int)
    whole = Enhancer("flux1", "cpu")(given.astype(np.uint8)).astype(int)
    assert np.abs(made[-1] - given[-1]).max() <= 1  # opaque there
    assert np.abs(made[0] - whole[0]).max() <= 2
    values = [message["data"]["value"] for message in told if message["type"] == "progress"]
    assert values == [1, 2, 3]


def test_cancel(server: Server) -> None:
    nodes = prompt()
    nodes["6"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 64}}
    nodes["3"]["inputs"] |= {"image": ["6", 0], "strength": 0.9}
    nodes["4"]["inputs"]["before"] = ["6", 0]
    _, told = server.run(nodes, cancel_at=2)
    assert told[-1]["type"] == "execution_interrupted"
    values = [message["data"]["value"] for message in told if message["type"] == "progress"]
    assert max(values) < 64


def test_student_and_head(server: Server) -> None:
    asked = {"pair": "tiny", "head": "tiny-best", "prompt": "A professional portrait of Ada Okafor", "seed": 1}
    nodes = {
        "1": {"class_type": "UndistillStudentAndHead", "inputs": asked},
        "2": {"class_type": "UndistillCompare", "inputs": {"before": ["1", 1], "after": ["1", 0], "line": 2}},
    }
    outputs, told = server.run(nodes)
    assert told[-1]["type"] == "execution_success", told[-1]
    assert server.picture(outputs, "2").size == (64 + 2 + 64, 64)


def test_what_goes_wrong_is_said(server: Server) -> None:
    nodes = prompt()
    nodes["2"]["inputs"]["hub_id"] = "nobody"
    _, told = server.run(nodes)
    assert told[-1]["type"] == "execution_error"
    assert told[-1]["data"]["exception_message"].startswith("no head 'nobody': neither a folder, nor shipped")
