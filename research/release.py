"""What a release still lacks: python -m research.release

`comfy node validate` passes an empty publisher; the registry does not. Its id is the owner's to fill in.
"""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lacking(package: Path, node: Path) -> list[str]:
    """Reasons not to publish.

    Args:
        package: pyproject.toml of undistill.
        node: that of the ComfyUI nodes.
    """
    ours, theirs = (tomllib.loads(path.read_text(encoding="utf-8")) for path in (package, node))
    reasons = []
    if not theirs["tool"]["comfy"]["PublisherId"]:
        reasons.append(f"{node}: tool.comfy.PublisherId is empty: the id of your publisher on registry.comfy.org")
    if not theirs["project"]["urls"]["Repository"]:
        reasons.append(f"{node}: project.urls.Repository is empty: where the nodes can be had")
    if theirs["project"]["version"] != ours["project"]["version"]:
        reasons.append(f"{node}: version {theirs['project']['version']}, undistill's is {ours['project']['version']}")
    return reasons


def main() -> None:
    """Exit code 1 while something is lacking."""
    reasons = lacking(ROOT / "pyproject.toml", ROOT / "integrations" / "comfyui" / "pyproject.toml")
    for reason in reasons:
        print(reason, file=sys.stderr)
    sys.exit(bool(reasons))


if __name__ == "__main__":
    main()
