from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.base.test_table import WIDTHS, check_figures, shown
from tests.report.made_up import null, value
from undistill.base.table import Table
from undistill.report.bench import _for_the_eye, _parts, show, to_markdown, write_plot


def results(teacher: dict[str, Any]) -> dict[str, Any]:
    """A bench.json that nobody measured."""
    ran = {"seconds": value(0.02, 0.01, 0.03, 6), "images_per_s": value(50, n=6), "gflop": value(0.08, n=1)}
    saved = value(0.9, 0.88, 0.91)
    return {
        "cost": {
            "64": {
                "student": {"seconds": value(0.02, n=3), "saved": value(0.91)},
                "mine": {
                    "seconds": value(0.0305, 0.03, 0.04, 6),
                    "share": value(0.25),
                    "saved": saved,
                },
                "teacher": {"seconds": teacher, "saved": null("is the row itself")},
            }
        },
        "heads": {
            "64": {
                "mine": {"fp32": {**ran, "peak_mb": null("Linux alone")}, "CUDA graphs": {"seconds": null("no GPU")}},
                "other": {"CUDA graphs": {"seconds": null("no GPU")}},
            }
        },
        "limits": {"64": {"float32": {"convolution": value(420), "matmul": null("no room")}}},
        "settings": {
            "pair": "tiny",
            "reference": "cyclegan-published fp32",
            "date": "2026-11-25",
            "machine": {"processor": "abacus", "cores": 2, "threads": 1, "device": "cpu"},
        },
        "versions": {"torch": "2"},
    }


def test_tables_hold_the_figures_and_lists_the_reasons() -> None:
    text = to_markdown(results(value(0.3, 0.2, 0.4, 6)))
    assert "abacus, 2 cores, 1 thread, on cpu; torch 2; 2026-11-25." in text
    assert "| 64 | student | 20.0 ms |  |  | 3 |  | 91% |  |" in text
    assert "| 64 | student, then `mine` | 30.5 ms | 30.0 ms to 40.0 ms |  | 6 | 25% | 90% | 88% to 91% |" in text
    assert "| 64 | student, then teacher | 300 ms | 200 ms to 400 ms |" in text
    assert "The paper, with FLUX.1: 82%." in text
    assert "| 64 | `mine` | fp32 | 20.0 ms | 10.0 ms to 30.0 ms | 50.0 | 0.0800 |" in text
    assert "| 64 | float32 | 420 |  |" in text
    assert text.endswith(
        "- no peak memory of fp32: Linux alone\n- no CUDA graphs: no GPU\n- no matmul in float32: no room"
    )
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_can_be_read_at_any_width(width: int) -> None:
    found = results(value(3.518, 3.477, 3.702, 6))
    for part in _parts(found):
        if isinstance(part, Table):
            check_figures(_for_the_eye(part), width)
    said = shown(lambda console: show(found, console), width)
    assert "3,518 ms (3,477 ms to 3,702 ms)" in said
    assert said.index("saved") < said.index("mean")
    assert "- no peak memory of fp32: Linux alone" in said
    assert "`" not in said


@pytest.mark.parametrize("teacher", [value(0.3, 0.2, 0.4, 6), null("no weights")])
def test_the_plot_is_drawn_with_what_there_is(teacher: dict[str, Any], tmp_path: Path) -> None:
    write_plot(results(teacher), tmp_path / "bench.png")
    with Image.open(tmp_path / "bench.png") as picture:
        assert len(picture.convert("RGB").getcolors(2**20) or []) > 50
