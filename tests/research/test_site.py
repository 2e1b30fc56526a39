import re
from pathlib import Path

import pytest
from research import site

PAGES = [path for path in site.reached(site.ROOT) if path.suffix == ".md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(site.ROOT)))
def test_links_and_their_anchors_resolve(page: Path) -> None:
    for link in site.links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert not anchor or anchor in site.anchors(target), link


def test_every_page_has_a_place_in_the_navigation() -> None:
    navigation = (site.ROOT / "mkdocs.yml").read_text()
    for page in sorted((site.ROOT / "docs").glob("*.md")):
        assert f": docs/{page.name}\n" in navigation


def test_what_a_page_links_to_comes_along(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("[a](docs/a.md#x) [away](https://example.org/b) `[no](nowhere.md)`\n")
    (tmp_path / "CHANGELOG.md").write_text("")
    (tmp_path / "docs" / "a.md").write_text("# X\n\n![c](../c.png)\n\n```\n[no](nowhere.md)\n```\n")
    (tmp_path / "c.png").write_bytes(b"")
    assert {path.name for path in site.reached(tmp_path)} == {"README.md", "CHANGELOG.md", "a.md", "c.png"}
    (tmp_path / "c.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"docs/a\.md: no \.\./c\.png"):
        site.reached(tmp_path)


def test_anchors_are_those_of_headings(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# What it `costs`\n\n```sh\n# not this\n```\n\n## Is it [true](x.md), really?\n")
    assert site.anchors(page) == {"what-it-costs", "is-it-true-really"}


def test_the_messages_of_troubleshooting_are_what_the_code_says() -> None:
    code = "\n".join(path.read_text() for path in sorted((site.ROOT / "src").rglob("*.py")))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    page = (site.ROOT / "docs" / "troubleshooting.md").read_text()
    messages = [
        told for line in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE) for told in re.findall("`(.+?)`", line)
    ]
    assert len(messages) > 40
    for message in messages:
        for part in re.split(r"\s*\b(?:[A-Z]{3,}|N)\b(?!_)\s*", message):
            assert part in code, message
