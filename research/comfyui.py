"""Writes integrations/comfyui's example workflows and icon: python -m research.comfyui

A workflow is written in the form that ComfyUI's page saves, and into a PNG of a shipped sample, enhanced, from which
the page reads it when the picture is dropped there.
"""

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from undistill.base.files import WEIGHTS
from undistill.enhance import Enhancer

ROOT = Path(__file__).parents[1] / "integrations" / "comfyui"
SAMPLE = WEIGHTS.parent / "samples" / "schnell-000009-doctor.webp"
SIZES = {"LoadImage": (320, 360), "UndistillCompare": (640, 400), "SaveImage": (320, 360)}


def node(number: int, kind: str, x: int, values: list[Any], inputs: list[Any], outputs: list[Any]) -> dict[str, Any]:
    """One as the page saves it. Inputs: name, type, link; outputs: name, type, links."""
    return {
        "id": number,
        "type": kind,
        "pos": [x, 80 if inputs else 80 + 420 * (number - 1)],
        "size": list(SIZES.get(kind, (320, 220))),
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": [{"name": name, "type": of, "link": link} for name, of, link in inputs],
        "outputs": [{"name": name, "type": of, "links": links} for name, of, links in outputs],
        "properties": {"Node name for S&R": kind},
        "widgets_values": values,
    }


def workflow(nodes: list[dict[str, Any]], links: list[list[Any]]) -> dict[str, Any]:
    """What the page saves. Links: number, node and output it comes from, node and input it goes to, type."""
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def enhance() -> dict[str, Any]:
    """An image, enhanced, saved, and beside what it was."""
    image, head = ("IMAGE", "UNDISTILL_HEAD")
    return workflow(
        [
            node(1, "LoadImage", 40, ["portrait.png", "image"], [], [("IMAGE", image, [1, 3]), ("MASK", "MASK", [])]),
            node(2, "UndistillLoadHead", 40, ["flux1", ""], [], [("head", head, [2])]),
            node(
                3,
                "UndistillEnhancePortrait",
                420,
                [1.0, "all", 0.2],
                [("image", image, 1), ("head", head, 2), ("mask", "MASK", None)],
                [("image", image, [4, 5])],
            ),
            node(
                4,
                "UndistillCompare",
                800,
                [4],
                [("before", image, 3), ("after", image, 4)],
                [("image", image, [])],
            ),
            node(5, "SaveImage", 1480, ["undistill"], [("images", image, 5)], []),
        ],
        [
            [1, 1, 0, 3, 0, image],
            [2, 2, 0, 3, 1, head],
            [3, 1, 0, 4, 0, image],
            [4, 3, 0, 4, 1, image],
            [5, 3, 0, 5, 0, image],
        ],
    )


def student() -> dict[str, Any]:
    """A prompt, drawn by a pair's student, enhanced, and beside what it was."""
    image = "IMAGE"
    return workflow(
        [
            node(
                1,
                "UndistillStudentAndHead",
                40,
                ["tiny", "(the pair's own)", "A professional portrait of Ada Okafor", 1, "randomize"],
                [],
                [("image", image, [2, 3]), ("student", image, [1])],
            ),
            node(2, "UndistillCompare", 420, [4], [("before", image, 1), ("after", image, 2)], [("image", image, [])]),
            node(3, "SaveImage", 1100, ["undistill"], [("images", image, 3)], []),
        ],
        [[1, 1, 1, 2, 0, image], [2, 1, 0, 2, 1, image], [3, 1, 0, 3, 0, image]],
    )


def prompt() -> dict[str, Any]:
    """`enhance` as the server takes it on /prompt."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "portrait.png"}},
        "2": {"class_type": "UndistillLoadHead", "inputs": {"head": "flux1", "hub_id": ""}},
        "3": {
            "class_type": "UndistillEnhancePortrait",
            "inputs": {"image": ["1", 0], "head": ["2", 0], "strength": 1.0, "where": "all", "feather": 0.2},
        },
        "4": {"class_type": "UndistillCompare", "inputs": {"before": ["1", 0], "after": ["3", 0], "line": 4}},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "undistill"}},
    }


def icon(side: int = 400) -> Image.Image:
    """Two halves of a face: flat, and with light on it."""
    large = Image.new("RGB", (4 * side, 4 * side), "#20242c")
    draw = ImageDraw.Draw(large)
    for step in range(60):  # the right half has depth
        inset = step * side // 60
        tone = tuple(
            int(low + (high - low) * step / 60) for low, high in zip((120, 74, 52), (246, 208, 178), strict=True)
        )
        draw.ellipse([side + inset, side // 2 + inset, 3 * side - inset // 2, 7 * side // 2 - inset], fill=tone)
    left = Image.new("RGB", (2 * side, 4 * side), "#20242c")
    ImageDraw.Draw(left).ellipse([side, side // 2, 3 * side, 7 * side // 2], fill="#c99a80")
    large.paste(left, (0, 0))
    draw.line([2 * side, 0, 2 * side, 4 * side], fill="white", width=side // 12)
    return large.resize((side, side), Image.Resampling.LANCZOS)


def main() -> None:
    """Write them."""
    folder = ROOT / "example_workflows"
    for name, made in (("enhance", enhance()), ("student", student())):
        (folder / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    portrait = Image.open(SAMPLE).convert("RGB").resize((512, 512), Image.Resampling.LANCZOS)
    text = PngInfo()
    text.add_text("workflow", json.dumps(enhance()))
    text.add_text("prompt", json.dumps(prompt()))
    Enhancer("flux1", "cpu")(portrait).save(folder / "enhance.png", pnginfo=text, optimize=True)
    icon().save(ROOT / "icon.png", optimize=True)


if __name__ == "__main__":
    main()
