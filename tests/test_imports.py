"""Imports go down only: base, then what knows pictures, then the stages, then what is made of several."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = (
    {"base"},
    {"images", "heads", "faces", "losses", "metrics", "dataset"},
    {"names", "prompts", "pairs", "training", "enhance", "diversity", "bench", "judge"},
    {
        "pipeline",
        "integrations",
        "hub",
        "spandrel",
        "demo",
        "steps",
        "fit",
        "doctor",
        "report",
        "reproduce",
        "serve",
        "client",
        "cli",
        "__init__",
        "__main__",
    },
)


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, at its top or anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_go_down_only() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    package = ROOT / "src" / "undistill"
    for path in package.rglob("*.py"):
        name = path.relative_to(package).parts[0].removesuffix(".py")
        for module in imported(path):
            if module.startswith("undistill."):
                assert floor[module.split(".")[1]] <= floor[name], f"{path} imports {module}"
            assert module.split(".")[0] not in ("research", "tests"), f"{path} imports {module}"
