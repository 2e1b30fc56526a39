"""The page of a reproduction that nobody ran."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.made_up import ITSELF, null, value
from tests.report.test_page import Reader, png, read
from undistill.base.settings import read_yaml
from undistill.report.pictures import Triple
from undistill.report.reproduce import write_reproduce_page
from undistill.reproduce.gather import HERE, ranking

METRICS = (
    "fd_student",
    "fd_teacher",
    "fd_diff",
    "kid_teacher",
    "blur_effect",
    "lpips_student",
    "ssim_student",
    "psnr_student",
)
FIGURES = ("figure-1.png", "figure-2.png", "figure-7.png", "diversity/map.png", "bench/bench.png")


def row(closed: float, **more: Any) -> dict[str, Any]:
    figures = {metric: value(0.1, 0.05, 0.15) for metric in METRICS}
    return {**figures, "gap_closed": value(closed, closed - 0.1, closed + 0.1), "clip_iqa": null("no weights"), **more}


def quality(draw: int, features: str) -> dict[str, Any]:
    rows = {
        "student": {"gap_closed": null(ITSELF)},
        "teacher": {"gap_closed": null(ITSELF)},
        "pairwise": row(-0.9, kid_teacher=value(0.3)),
        "ours": row(0.3173, kid_teacher=value(0.1)),
        "blur": row(-0.5, kid_teacher=value(0.4)),
    }
    settings = {
        "baselines": {},
        "split": [0.0, 0.5],
        "features": features,
        "images": {"student": 1000, "teacher": 1000},
        "fitted on": {"student": 990, "teacher": 990, "apart": True},
        "distance": "kid",
        "dimensions": 65,
    }
    return {"draw": draw, "features": features, "found": {"rows": rows, "settings": settings}}


def results() -> dict[str, Any]:
    measured = [quality(draw, features) for features in ("lite", "alex") for draw in (1, 2)]
    entropies = {f"{name}_entropy": value(0.61, 0.6, 0.62) for name in ("gender", "age")}
    group = {
        **entropies,
        "ethnicity_entropy": null("nobody estimates it"),
        "gender_female": value(0.4321, 0.4, 0.5),
        "distance": value(0.123, 0.12, 0.13),
        "faces_missing": value(41, n=500),
    }
    machine = {"platform": "Linux", "processor": "A <fast> one", "cores": 2, "threads": 2, "device": "cpu"}
    sweep = [
        {"cell": {"cycle": c, "lr": lr}, "state": "done", "step": 500, "loss": 0.51, "ssim": 0.98}
        for c in (10, 2)
        for lr in (1e-4, 2e-4)
    ]
    kept = {
        "what": "12 cells",
        "command": "undistill sweep",
        "commit": "0123456789abc",
        "date": "2026-11-25",
        "n": "8,006 pairs",
        "hardware": "two cores",
    }
    waiting = {"cell": {"cycle": 10}, "state": "waiting", "step": None, "loss": None, "ssim": None}
    return {
        "settings": {
            "pair": "tiny",
            "size": 64,
            "quick": False,
            "unseen": True,
            "recipes": True,
            "rows": {"pairwise": "tiny-unet", "ours": "tiny-best"},
            "heads": ["pairwise", "ours"],
            "timed": "tiny-best",
            "machine": machine,
            "date": "2026-11-25",
        },
        "versions": {"undistill": "0.1.0", "torch": "2.13.0"},
        "paper": read_yaml(HERE / "paper.yaml"),
        "diversity": {
            "rows": {"business": group, "names": group},
            "differences": {
                "names": {
                    **entropies,
                    "ethnicity_entropy": null("nobody estimates it"),
                    "distance": value(0.01, 0.005, 0.02),
                }
            },
            "tests": {"names": {"gender": {"p_entropy": 0.0123}, "age": {"p_entropy": 0.5}, "ethnicity": None}},
            "figures": {"map": "map.png"},
            "notes": [],
            "warning": "Perceived attributes.",
            "settings": {"attributes": "somebody", "embedding": "dlib-128"},
        },
        "sweep": {
            "report": {"studies": {"cyclegan": {"cells": sweep}, "esa-cyclegan": {"cells": [waiting]}}},
            "stored": kept,
        },
        "quality": measured,
        "ranking": ranking(measured),
        "ablation": {
            "report": {"rows": {"pairwise": row(-0.9), "ablation-l1": row(-0.1), "ablation-none": row(-4.8)}},
            "stored": kept,
        },
        "real": None,
        "bench": {
            "cost": {
                "64": {
                    "student": {"seconds": value(0.0217), "saved": value(0.91)},
                    "tiny-best": {"seconds": value(0.0265), "saved": value(0.8934, 0.89, 0.897), "share": value(0.18)},
                    "teacher": {"seconds": value(0.248)},
                }
            },
            "settings": {"machine": machine},
        },
        "steps": [
            {"part": "draw 1", "command": "undistill prompts --count 2200", "seconds": 90.0, "date": "2026-11-25"}
        ],
    }


def page_of(results: dict[str, Any], folder: Path) -> Reader:
    image = png(np.full((8, 8, 3), 99, np.uint8))
    for name in FIGURES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(image)
    write_reproduce_page(
        json.loads(json.dumps(results)), [Triple("<Ada> & co", image, image, image)], folder, folder / "index.html"
    )
    return read(folder / "index.html")


def test_tables_and_figures_are_headed_as_the_papers(tmp_path: Path) -> None:
    page_of(results(), tmp_path)
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", (tmp_path / "index.html").read_text())
    papers = [f"Table {number}" for number in range(1, 5)] + [f"Figure {number}" for number in (1, 2, 3, 6, 7)]
    assert set(papers) <= set(headings)
    assert "Real FLUX.1 images" not in headings


def test_each_says_by_which_commands_it_was_made(tmp_path: Path) -> None:
    made_up = results()
    parts = ("diversity", "draw 1", "cost")
    made_up["steps"] = [{"part": part, "command": f"make {part}", "seconds": 1.0, "date": ""} for part in parts]
    page_of(made_up, tmp_path)
    sections = re.split(r"<h2[^>]*>", (tmp_path / "index.html").read_text())
    by = {section.partition("<")[0]: section for section in sections}
    for heading, part in (
        *((f"Figure {number}", "draw 1") for number in (1, 7)),
        *((f"Figure {number}", "diversity") for number in (2, 3)),
        *(("Table 1", "diversity"), ("Table 4", "draw 1"), ("Figure 6", "cost")),
    ):
        assert f"make {part}" in by[heading], heading


def test_ours_stand_beside_the_papers(tmp_path: Path) -> None:
    text = page_of(results(), tmp_path).text
    ours = [
        "32%",
        "22% to 42%",
        "0.610",
        "43%",
        "0.012",
        "459 of 500",
        "0.5100, 0.9800",
        "waiting",
        "21.7 ms",
        "89%",
        "n = 160",
    ]
    theirs = ["0.61 to 0.58", "rises", "FID_diff 0.41", "0.37", "82% saved", "11.2 images a second", "lambda 2"]
    marked = [
        "Stored",
        "commit 0123456789",
        "8,006 pairs",
        "undistill prompts --count 2200",
        "1.5 min",
        "nobody estimates it",
    ]
    said = ["says nothing about FLUX", "Yes, in part. ours closes more", "Kendall"]
    for words in (*ours, *theirs, *marked, *said):
        assert words in text, words
    assert "too few images for any figure" not in text


def test_a_quick_run_says_so_and_what_was_not_made_too(tmp_path: Path) -> None:
    quick = results()
    quick["settings"]["quick"] = True
    quick["sweep"] = quick["ablation"] = None
    text = page_of(quick, tmp_path).text
    assert "too few images for any figure here to be quoted" in text
    assert text.count("Not made: it takes training. undistill reproduce --pair tiny --train recipes does it.") == 3
    quick["settings"] |= {"unseen": False, "recipes": False}
    other = page_of(quick, tmp_path).text
    assert other.count("Not made: it takes training, for which this pair has no recipes.") == 3
    assert "that no training saw" in text
    assert "that no training saw" not in other


def test_real_images_stand_above(tmp_path: Path) -> None:
    with_real = results()
    found = quality(1, "lite")["found"]
    found["rows"]["flux1-lite"] = row(0.0216)
    with_real["real"] = found
    page = page_of(with_real, tmp_path)
    assert page.text.index("Real FLUX.1 images") < page.text.index("Figure 1")
    assert "The head closes 2%" in page.text


@pytest.mark.parametrize("changes", [{}, {"pair": "flux1"}])
def test_it_is_one_file_that_needs_nothing(changes: dict[str, Any], tmp_path: Path) -> None:
    made_up = results()
    made_up["settings"] |= changes
    page = page_of(made_up, tmp_path)
    assert not re.search(r"@import|url\(|https?://", (tmp_path / "index.html").read_text())
    for tag, attributes in page.tags:
        for key in ("src", "href"):
            assert (attributes.get(key) or "data:").startswith("data:"), (tag, attributes)
    assert all(image["alt"] for image in page.all("img"))
    assert ("says nothing about FLUX" in page.text) == (not changes)
