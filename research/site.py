"""The site, build/site/index.html, from the README, docs/ and what they link to: python -m research.site

Pages and files lie in build/pages as they do in the repository, so that the same links hold here and there. Beside them
comes build/site/blind.html, which asks about the eight portraits that ship.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
PAGES = Path("build", "pages")
SITE = ROOT / "build" / "site"
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`|<!--.*?-->|^    .*?$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOREIGN = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=.?https?://[^>]*>")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)


def links(page: Path) -> list[str]:
    """Where a page leads: what stands in the brackets of its links and pictures, other sites left out."""
    return [link for link in LINK.findall(CODE.sub("", page.read_text())) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """What can stand behind `#` in a link to this page: its headings, as GitHub and the site both write them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    words = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in HEADING.findall(text))
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in words}


def start(root: Path) -> list[Path]:
    """The pages that the site begins with."""
    return [root / "README.md", root / "CHANGELOG.md", *sorted((root / "docs").glob("*.md"))]


def reached(root: Path) -> list[Path]:
    """All files that the site holds: its pages, and what they link to, by way of other pages too.

    Raises:
        FileNotFoundError: a link leads nowhere.
    """
    found: dict[Path, None] = {}
    waiting = start(root)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        if path.suffix == ".md":
            for link in links(path):
                target = (path.parent / link.partition("#")[0]).resolve() if not link.startswith("#") else path
                if not target.is_file():
                    raise FileNotFoundError(f"{path.relative_to(root)}: no {link}")
                waiting.append(target)
    return list(found)


def ask(page: Path) -> None:
    """The blind question of docs/judge.md, about the portraits that ship, on a page of its own.

    Both sides are compressed once, and alike: nothing but the head tells them apart.
    """
    undistill = (sys.executable, "-m", "undistill")
    with TemporaryDirectory() as place:
        sides = {"schnell": ("--strength", "0"), "flux1": ()}
        for side, how in sides.items():
            enhance = (*undistill, "enhance", "--samples", *how, "--quality", "95", "--quiet", "-o", f"{place}/{side}")
            subprocess.run(enhance, check=True)
        pairs = [f"{side}={place}/{side}" for side in sides]
        subprocess.run([*undistill, "judge", *pairs, "--export", str(page)], check=True)


def main() -> int:
    """Lay out the pages and build; whatever is warned of, and what would come from another host, is a failure."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    for path in reached(ROOT):
        there = ROOT / PAGES / path.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, there)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout)
    if not done.returncode:
        ask(SITE / "blind.html")
    faults = [line for line in done.stdout.splitlines() if re.match(r"(?i)(griffe|.*\bwarn)", line)]
    for page in sorted(SITE.rglob("*.html")):
        faults += [f"{page}: fetches {found[0]} from another host" for found in FOREIGN.finditer(page.read_text())]
    print("\n".join(faults))
    return 1 if done.returncode or faults else 0


if __name__ == "__main__":
    sys.exit(main())
