import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.report.made_up import null, results, value
from undistill.images import Picture, Pixels, encode
from undistill.report.demo import write_demo_page, write_triples
from undistill.report.pictures import SHOWN, Triple, before_after
from undistill.report.table import make_chart

VOID = {"meta", "link", "img", "input", "br"}


class Reader(HTMLParser):
    """Text, tags and attributes of a page, whose elements must close in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    reader.text = " ".join(reader.text.split())
    return reader


@pytest.fixture
def shown() -> list[Triple]:
    """Twenty persons, every other one with an awkward name."""
    persons = []
    for number in range(20):
        pngs = [png(np.full((8, 8, 3), 10 * number + 20 * shade, np.uint8)) for shade in range(3)]
        persons.append(Triple(f'"<{number}> & co' if number % 2 else f"ليلى {number}", *pngs))
    return persons


def png(pixels: Pixels) -> bytes:
    return encode(Picture(pixels, None, "PNG"), pixels)


def page_of(made_up: dict[str, Any], shown: list[Triple], folder: Path) -> Reader:
    real = [before_after("schnell <1>", *(np.full((600, 500, 3), shade, np.uint8) for shade in (90, 120)))]
    write_demo_page(json.loads(json.dumps(made_up)), shown, real, folder / "index.html")
    return read(folder / "index.html")


def test_every_figure_is_on_the_page(shown: list[Triple], tmp_path: Path) -> None:
    text = page_of(results(), shown, tmp_path).text
    table = [
        *("58%", "50% to 66%", "0.0017", "0.0011 to 0.0023", "0.951", "0.942 to 0.960", "98%", "94% to 99%"),
        *("0.042", "0.040 to 0.044", "0.0041", "\N{MINUS SIGN}0.0002", "12%", "1% to 23%", "\N{MINUS SIGN}7%"),
    ]
    cost = ["7.12 ms", "6.98 ms to 7.33 ms", "8% of the teacher", "10.3 ms", "12% of the teacher", "88.1 ms"]
    words = [
        "n = 157",
        "n = 160",
        "Median of 9 rounds of 8 images",
        "blur 0.75",
        "changes nothing",
        "160 from number 10000",
    ]
    made = [
        "tiny-schnell, 1 step",
        "50 steps",
        "0123456789ab",
        "A <fast> one",
        "torch 2.13.0",
        "undistill demo -o demo",
    ]
    real = ["flux9", "0.16 s a portrait of 1024 px here", "schnell <1>"]
    stored = ["mine closed 22% (95% interval 3% to 41%) of the gap for 1000 people (stored, of 2026-11-20)"]
    limits = [
        "160 student and 158 teacher images",
        "161 student and 159 teacher images",
        "those that are measured, cross-fitted",
    ]
    for figure in (*table, *cost, *words, *made, *real, *stored, *limits):
        assert figure in text, figure


def test_a_null_has_its_reason(shown: list[Triple], tmp_path: Path) -> None:
    made_up = results(null("student and teacher can't be told apart"), null("student and teacher can't be told apart"))
    text = page_of(made_up, shown, tmp_path).text
    assert "be told from noise: student and teacher can" in text
    marks = dict(re.findall(r"\b([a-z]) (is the row itself|no face found|not measured for this row|student and)", text))
    assert sorted(marks.values()) == ["is the row itself", "no face found", "not measured for this row", "student and"]
    for mark in marks:
        assert f"n/a{mark}" in text


def test_the_chart_keeps_its_scale_whatever_a_filter_does() -> None:
    inside = make_chart(results()["rows"])
    assert [bar.name for bar in inside.bars] == ["mine", "blur", "colour"]
    assert [bar.beyond for bar in inside.bars] == ["", "", ""]
    assert inside.student < inside.bars[1].at < inside.bars[0].low < inside.bars[0].at < inside.teacher
    wide = make_chart(results(value(3.0, 0.5, 5.5), value(-9.0, -12.0, -6.0))["rows"])
    assert [(bar.name, bar.beyond) for bar in wide.bars] == [("mine", "right"), ("colour", ""), ("blur", "left")]
    assert (wide.bars[0].high, wide.bars[2].low, wide.bars[2].high) == (100, 0, 0)
    assert wide.teacher - wide.student > 30


def test_it_is_one_file_that_needs_nothing(shown: list[Triple], tmp_path: Path) -> None:
    reader = page_of(results(), shown, tmp_path)
    html = (tmp_path / "index.html").read_text()
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r"@import|url\(", html)
    for tag, attributes in reader.tags:
        for key in ("src", "href"):
            assert attributes.get(key, "data:").startswith("data:"), (tag, attributes)  # type: ignore[union-attr]


def test_who_cannot_see_or_point_is_thought_of(shown: list[Triple], tmp_path: Path) -> None:
    reader = page_of(results(), shown, tmp_path)
    images = reader.all("img")
    assert len(images) == 2 + 12 * 2 + 8 * 3
    assert all(image["alt"] for image in images)
    assert images[4]["alt"] == "The student's portrait of \"<1> & co"
    sliders = reader.all("input")
    assert [slider["type"] for slider in sliders] == ["range", "range"]
    assert all(slider["aria-label"] for slider in sliders)
    assert [tag for tag, _ in reader.tags if re.fullmatch(r"h\d", tag)] == ["h1", *["h2"] * 7]
    assert [page["lang"] for page in reader.all("html")] == ["en"]
    assert '"<19> & co' in reader.text


def test_a_few_persons_are_enough_and_another_pair_is_not_called_tiny(shown: list[Triple], tmp_path: Path) -> None:
    made_up = results()
    made_up["settings"]["pair"] = "flux1"
    reader = page_of(made_up, shown[:3], tmp_path)
    assert len(reader.all("img")) == 2 + 3 * 2 + 3 * 3
    assert "tiny," not in reader.text
    assert "tiny shares its architecture" not in reader.text


def test_large_pictures_are_embedded_small(shown: list[Triple], tmp_path: Path) -> None:
    noise = png(np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8))
    page_of(results(), [Triple(shown[0].name, noise, noise, noise)], tmp_path)
    assert (tmp_path / "index.html").stat().st_size < 5 * 4 * SHOWN**2 * 4 / 3 + 50_000


def test_the_strip_has_a_column_a_person(shown: list[Triple], tmp_path: Path) -> None:
    write_triples(shown, tmp_path / "triples.png")
    strip = np.asarray(Image.open(tmp_path / "triples.png"))
    assert strip.shape[0] == 3 * 132 - 4
    # The last picture of the last row: the teacher's of the twentieth person.
    assert (strip[-1, -1] == 10 * 19 + 40).all()
    assert (strip[0, -1] == 10 * 19).all()
